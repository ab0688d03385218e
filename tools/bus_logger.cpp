// bus-logger: publishes from a shell, through a relay. Ends with 0 only when every event is
// durable.
#include "bus/base/command_line.hpp"
#include "proto/topic.hpp"
#include "tools/relay_sender.hpp"
#include "tools/tool_config.hpp"

#include <iostream>
#include <optional>

#include <fmt/core.h>
#include <pwd.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

struct Options {
  std::string config;
  std::string relay;
  std::string token_file;
  std::string prefix, environment;
  std::string service = "shell";
  std::string topic = "log.line";
  std::optional<std::string> message;
  bool json_input = false;
  bool json = false;
  double timeout_s = 10;
};

std::string user_name() {
  const passwd* user = getpwuid(geteuid());
  return user ? user->pw_name : std::to_string(geteuid());
}

int bus_logger(int argc, char** argv) {
  Options options;
  base::CommandLine line(
      "bus-logger",
      "Publishes events from a shell through a relay: --message, else each line of standard "
      "input. Exit code 0 only when every event is durable there.");
  line.option("--config", options.config, "a daemon's or tool's configuration file")
      .existing_file();
  line.option("--relay", options.relay,
              "the relay's submit endpoint, e.g. ipc:///run/mirrorbus/submit");
  line.option("--token-file", options.token_file,
              "show the relay the token on this file's first line");
  line.option("--prefix", options.prefix, "topic prefix, e.g. org.example");
  line.option("--environment", options.environment, "dev, stg or production");
  line.option("--service", options.service, "topic segment of the sending service");
  line.option("--topic", options.topic, "the rest of the topic: OBJECT.EVENT");
  const auto message = line.option("--message", options.message, "publish this text as one event");
  line.flag("--json-input", options.json_input, "each line is a JSON object and becomes the body")
      .excludes(message);
  line.flag("--json", options.json, "print one JSON object per acknowledged event");
  line.option("--timeout", options.timeout_s, "seconds to wait for an acknowledgement");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const ToolConfig config = load_tool_config(options.config);
  const std::string relay = options.relay.empty() ? config.relay : options.relay;
  const std::string prefix = options.prefix.empty() ? config.settings.bus.prefix : options.prefix;
  const std::string environment =
      options.environment.empty() ? config.settings.bus.environment : options.environment;
  if (relay.empty() || prefix.empty() || environment.empty()) {
    fmt::print(stderr, "bus-logger: needs --config, or --relay, --prefix and --environment\n");
    return 2;
  }
  const std::string topic =
      fmt::format("{}.{}.{}.{}", prefix, environment, options.service, options.topic);
  if (!proto::valid_topic(topic)) {
    fmt::print(stderr,
               "bus-logger: \"{}\" is not a topic: words of a-z, 0-9, _ and - with dots between\n",
               topic);
    return 2;
  }

  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const std::string user = user_name();
  const auto body_of = [&](const std::string& text) {
    // Bytes that are not text are sent as bytes.
    const proto::Value message =
        proto::valid_utf8(text) ? proto::Value(text) : proto::Value(proto::Binary{text});
    return proto::Value(proto::Map{{"message", message}, {"host", host}, {"user", user}});
  };
  const std::string token_file =
      options.token_file.empty() ? config.token_file : options.token_file;
  std::string token;
  if (!token_file.empty()) {
    token = peer::read_token(token_file).value_or("");
    if (token.empty()) throw std::runtime_error("no token can be read from " + token_file);
  }
  RelaySender relay_sender(
      {relay, token,
       std::chrono::duration_cast<base::Duration>(
           std::chrono::duration<double>(options.timeout_s))},
      [&options](const proto::Submission& submission, std::uint64_t seq) {
        if (options.json)
          fmt::print("{}\n", proto::to_json(proto::Map{{"topic", submission.topic}, {"seq", seq}}));
      });
  const proto::Bytes sender = new_sender();
  std::uint64_t n = 0;
  const auto send = [&](const proto::Value& body) {
    relay_sender.send({sender, ++n, topic, proto::pack(body)});
  };
  if (options.message) {
    send(body_of(*options.message));
  } else {
    std::string line;
    for (std::uint64_t number = 1; std::getline(std::cin, line); ++number) {
      if (!options.json_input) {
        send(body_of(line));
        continue;
      }
      auto body = proto::from_json(line);
      if (!body || !body->as_map())
        throw std::runtime_error(fmt::format(
            "line {} is not a JSON object; {} events before it were sent", number, number - 1));
      send(*body);
    }
  }
  relay_sender.finish();
  return 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-logger", mirrorbus::tools::bus_logger, argc, argv);
}
