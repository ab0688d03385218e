// bus-logger: publishes from a shell, through a relay. Ends with 0 only when every event is
// durable.
#include "bus/base/command_line.hpp"
#include "bus/net/zmq_blocking.hpp"
#include "bus/trust/session_key.hpp"
#include "proto/limits.hpp"
#include "proto/serve.hpp"
#include "proto/topic.hpp"
#include "tools/tool_config.hpp"

#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include <fmt/core.h>
#include <pwd.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kWindow = 256;   // submissions under way
constexpr base::Duration kAgain = 1s;  // an unanswered one is sent again: the relay knows repeats

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

// Keeps a window of submissions under way until each is acknowledged.
class Sender {
 public:
  Sender(const std::string& relay, const std::string& token, base::Duration timeout, bool json)
      : relay_(relay),
        token_(token),
        timeout_(timeout),
        json_(json),
        socket_(context_, net::ZmqType::Dealer, {}) {
    sender_.resize(proto::kSenderSize);
    trust::random_bytes(sender_.data(), sender_.size());
    socket_.connect(relay);
  }

  void send(const std::string& topic, const proto::Value& body) {
    while (pending_.size() >= kWindow) wait();
    const std::uint64_t n = ++last_n_;
    proto::Map args = to_args(proto::Submission{sender_, n, topic, proto::pack(body)});
    if (!token_.empty()) args.emplace_back("token", token_);
    proto::Request request{n, "submit", std::move(args)};
    Pending pending{proto::encode_request(request), {}, Clock::now() + timeout_, topic};
    transmit(pending);
    pending_.emplace(n, std::move(pending));
  }
  // Until all are acknowledged.
  void finish() {
    while (!pending_.empty()) wait();
  }
  std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  struct Pending {
    proto::Bytes bytes;
    Clock::time_point again;
    Clock::time_point until;
    std::string topic;
  };

  void transmit(Pending& pending) {
    pending.again = Clock::now() + kAgain;
    socket_.send({pending.bytes}, 100ms);  // not taken: it is sent again
  }

  void wait() {
    if (auto parts = socket_.receive(50ms)) take(*parts);
    const auto now = Clock::now();
    for (auto& [n, pending] : pending_) {
      if (now > pending.until)
        throw std::runtime_error(fmt::format(
            "no acknowledgement from the relay at {} within {} s; {} of {} events are durable. "
            "Is bus-relayd running there?",
            relay_, std::chrono::duration<double>(timeout_).count(), acknowledged_, last_n_));
      if (now > pending.again) transmit(pending);
    }
  }

  void take(const std::vector<proto::Bytes>& parts) {
    const auto answer = proto::decode_answer(parts);
    if (!answer) return;
    const auto found = pending_.find(answer->id);
    if (found == pending_.end()) return;
    if (!answer->refused) {
      ++acknowledged_;
      if (json_)
        fmt::print("{}\n",
                   proto::to_json(proto::Map{
                       {"topic", found->second.topic},
                       {"seq", proto::field<std::uint64_t>(answer->fields, "seq").value_or(0)}}));
      pending_.erase(found);
    } else if (*answer->refused == proto::Reject::Busy ||
               *answer->refused == proto::Reject::Unavailable) {
      found->second.again =
          Clock::now() + std::chrono::milliseconds(std::max(answer->after_ms, 50u));
    } else {
      throw std::runtime_error(
          fmt::format("the relay at {} refused {}: {}{}", relay_, found->second.topic,
                      to_string(*answer->refused),
                      *answer->refused == proto::Reject::NotAllowed
                          ? " (no [[relay.allow]] rule of its covers this sender and topic)"
                          : ""));
    }
  }

  const std::string relay_;
  const std::string token_;
  const base::Duration timeout_;
  const bool json_;
  net::ZmqContext context_;
  net::BlockingZmqSocket socket_;
  proto::Bytes sender_;
  std::uint64_t last_n_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::map<std::uint64_t, Pending> pending_;
};

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
  Sender sender(
      relay, token,
      std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(options.timeout_s)),
      options.json);
  if (options.message) {
    sender.send(topic, body_of(*options.message));
  } else {
    std::string line;
    for (std::uint64_t number = 1; std::getline(std::cin, line); ++number) {
      if (!options.json_input) {
        sender.send(topic, body_of(line));
        continue;
      }
      auto body = proto::from_json(line);
      if (!body || !body->as_map())
        throw std::runtime_error(fmt::format(
            "line {} is not a JSON object; {} events before it were sent", number, number - 1));
      sender.send(topic, *body);
    }
  }
  sender.finish();
  return 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-logger", mirrorbus::tools::bus_logger, argc, argv);
}
