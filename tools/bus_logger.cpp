// bus-logger: publishes from a shell, through a relay. Ends with 0 only when every event is
// durable: there, or in the spool that it was given.
#include "bus/base/command_line.hpp"
#include "bus/base/config.hpp"
#include "proto/limits.hpp"
#include "proto/topic.hpp"
#include "tools/line_reader.hpp"
#include "tools/spooled_sender.hpp"
#include "tools/tool_config.hpp"

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
  std::string spool;
  std::string spool_limit = "64MiB";
  double timeout_s = 10;
  bool json_input = false, json = false, flush = false;

  base::Duration timeout() const {
    return base::from_seconds(timeout_s);
  }
};

std::string user_name() {
  const passwd* user = getpwuid(geteuid());
  return user ? user->pw_name : std::to_string(geteuid());
}

std::string host_name() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return host;
}

// What is to be said in the end, of what was not sent directly.
struct Report {
  std::uint64_t kept = 0;
  std::uint64_t set_aside = 0;
};

// Events of this run, numbered.
class Events {
 public:
  Events(const Options& options, std::string topic, SpooledSender& to)
      : json_input_(options.json_input), topic_(std::move(topic)), to_(to) {}

  void take(const std::string& text) {
    proto::Value body;
    if (json_input_) {
      auto parsed = proto::from_json(text);
      if (!parsed || !parsed->as_map()) return fail("is not a JSON object");
      body = std::move(*parsed);
    } else {
      // Bytes that are not text are sent as bytes.
      const proto::Value message =
          proto::valid_utf8(text) ? proto::Value(text) : proto::Value(proto::Binary{text});
      body = proto::Map{{"message", message}, {"host", host_}, {"user", user_}};
    }
    proto::Bytes packed = proto::pack(body);
    // No relay takes it, and some would not even answer.
    if (packed.size() > proto::kMaxEventSize)
      return fail(fmt::format("makes an event of more than {} bytes", proto::kMaxEventSize));
    to_.send({sender_, ++n_, topic_, std::move(packed)});
  }

 private:
  // What came before it is seen to first.
  void fail(const std::string& what) {
    to_.finish();
    throw std::runtime_error(
        fmt::format("line {} {}; the {} events before it are durable", n_ + 1, what, n_));
  }

  const bool json_input_;
  const std::string topic_;
  SpooledSender& to_;
  const proto::Bytes sender_ = new_sender();
  const std::string host_ = host_name();
  const std::string user_ = user_name();
  std::uint64_t n_ = 0;
};

// In text a byte can be worth six, as \u00xx.
constexpr std::size_t kLongestLine = 6 * proto::kMaxEventSize;

void read_lines(Events& events, SpooledSender& sender) {
  LineReader lines(STDIN_FILENO, kLongestLine);
  std::string line;
  for (;;) {
    switch (lines.next(line, sender.patience())) {
      case LineReader::Found::Line:
        events.take(line);
        break;
      case LineReader::Found::NotYet:
        sender.attend();
        break;
      case LineReader::Found::End:
        return;
    }
  }
}

int flush(SpooledSender& sender, EventSpool& spool, const Options& options, const Report& report) {
  const auto until = std::chrono::steady_clock::now() + options.timeout();
  // Another process that is sending them may be done in time.
  while (!sender.flush() && sender.away().empty() && std::chrono::steady_clock::now() < until)
    usleep(50'000);
  const std::size_t left = spool.count();
  if (left == 0) return report.set_aside == 0 ? 0 : 1;
  fmt::print(stderr, "bus-logger: {} events still wait in {}: {}\n", left, options.spool,
             sender.away().empty() ? "another process is sending them" : sender.away());
  return 1;
}

int log(const Options& options, const RelaySender::Options& relay, const std::string& topic,
        EventSpool* spool) {
  Report report;
  SpooledSender::Handlers handlers;
  handlers.on_acknowledged = [&](const proto::Submission& submission, std::uint64_t seq) {
    if (options.json)
      fmt::print("{}\n", proto::to_json(proto::Map{{"topic", submission.topic}, {"seq", seq}}));
  };
  handlers.on_kept = [&](const proto::Submission& submission) {
    ++report.kept;
    if (options.json)
      fmt::print("{}\n", proto::to_json(proto::Map{{"topic", submission.topic}, {"kept", true}}));
  };
  handlers.on_set_aside = [&](const std::string& why) {
    ++report.set_aside;
    fmt::print(stderr, "bus-logger: set aside {}\n", why);
  };
  SpooledSender sender(relay, spool, std::move(handlers));
  if (options.flush) return flush(sender, *spool, options, report);
  Events events(options, topic, sender);
  if (options.message)
    events.take(*options.message);
  else
    read_lines(events, sender);
  sender.finish();
  if (report.kept > 0 && spool->count() > 0)
    fmt::print(stderr,
               "bus-logger: {}{} of this run's events were kept in {}; the next bus-logger "
               "with this --spool sends them\n",
               sender.away().empty() ? "" : sender.away() + " ", report.kept, options.spool);
  return report.set_aside == 0 ? 0 : 1;
}

int bus_logger(int argc, char** argv) {
  Options options;
  base::CommandLine line(
      "bus-logger",
      "Publishes events from a shell through a relay: --message, else each line of standard "
      "input. Exit code 0 only when every event is durable there, or in the --spool.");
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
  auto json_input = line.flag("--json-input", options.json_input,
                              "each line is a JSON object and becomes the body");
  json_input.excludes(message);
  line.option("--spool", options.spool,
              "keep events in this directory while the relay is away, and send those first");
  line.option("--spool-limit", options.spool_limit, "what that directory may take");
  line.flag("--flush", options.flush, "send what is in the --spool, and no more")
      .excludes(message)
      .excludes(json_input);
  line.flag("--json", options.json, "print one JSON object per acknowledged event");
  line.option("--timeout", options.timeout_s, "seconds to wait for an acknowledgement");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const auto wrong_usage = [](const std::string& why) {
    fmt::print(stderr, "bus-logger: {}\n", why);
    return 2;
  };
  const ToolConfig config = load_tool_config(options.config);
  const peer::BusSettings& bus = config.settings.bus;
  const std::string relay = options.relay.empty() ? config.relay : options.relay;
  const std::string prefix = options.prefix.empty() ? bus.prefix : options.prefix;
  const std::string environment =
      options.environment.empty() ? bus.environment : options.environment;
  if (relay.empty() || (!options.flush && (prefix.empty() || environment.empty())))
    return wrong_usage("needs --config, or --relay, --prefix and --environment");
  const std::string topic =
      fmt::format("{}.{}.{}.{}", prefix, environment, options.service, options.topic);
  if (!options.flush && !proto::valid_topic(topic))
    return wrong_usage(
        fmt::format("\"{}\" is not a topic: words of a-z, 0-9, _ and - with dots between", topic));
  if (options.flush && options.spool.empty()) return wrong_usage("--flush needs --spool");
  const auto limit = base::parse_size(options.spool_limit);
  if (!limit) return wrong_usage("--spool-limit takes a size like 64MiB");

  std::optional<EventSpool> spool;
  if (!options.spool.empty()) spool.emplace(options.spool, *limit);
  const std::string token_file =
      options.token_file.empty() ? config.token_file : options.token_file;
  return log(options, {relay, token_in(token_file), options.timeout()}, topic,
             spool ? &*spool : nullptr);
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-logger", mirrorbus::tools::bus_logger, argc, argv);
}
