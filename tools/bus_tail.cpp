// bus-tail: prints events as they come, verified, in order, with gaps named.
#include "bus/base/command_line.hpp"
#include "bus/base/fd.hpp"
#include "bus/base/signals.hpp"
#include "bus/net/zmq_blocking.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/batch.hpp"
#include "proto/event.hpp"
#include "tools/listening.hpp"
#include "tools/time_text.hpp"
#include "tools/tool_config.hpp"

#include <cerrno>
#include <charconv>
#include <csignal>

#include <fmt/core.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

struct Options {
  ListenOptions listen;
  std::vector<std::string> topics, exclude;
  std::string cursor;
  std::string since = "now";
  std::uint64_t count = 0;
  double timeout_s = 0;
  bool json = false, pretty = false, no_verify = false, verbose = false;
};

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<peer::Start> parse_since(const std::string& text) {
  if (text == "now") return peer::StartNow{};
  if (text == "start") return peer::StartOldest{};
  if (const auto time = parse_time(text)) return peer::StartTime{*time};
  // PUBLISHER:SEQ or PUBLISHER:EPOCH:SEQ
  const std::size_t last = text.rfind(':');
  if (last == std::string::npos || last == 0) return std::nullopt;
  const auto seq = parse_number(std::string_view(text).substr(last + 1));
  if (!seq || *seq == 0) return std::nullopt;
  peer::StartSeq start{text.substr(0, last), *seq, std::nullopt};
  if (const std::size_t before = start.publisher.rfind(':'); before != std::string::npos) {
    start.epoch = parse_number(std::string_view(start.publisher).substr(before + 1));
    if (!start.epoch) return std::nullopt;
    start.publisher.resize(before);
  }
  return start;
}

class Printer {
 public:
  Printer(const Options& options, std::vector<proto::TopicPattern> exclude)
      : options_(options), exclude_(std::move(exclude)) {}

  std::uint64_t printed() const { return printed_; }
  bool enough() const { return options_.count > 0 && printed_ >= options_.count; }

  void event(proto::ByteView topic, const std::string& publisher, const std::string& signer,
             std::uint64_t epoch, std::uint64_t seq, std::uint64_t time_ns, const std::string& id,
             const proto::Value& body, bool verified) {
    if (enough() || proto::matches_any(exclude_, topic)) return;
    ++printed_;
    if (options_.json) {
      say("{}\n", proto::to_json(proto::Map{{"topic", topic},
                                            {"publisher", publisher},
                                            {"epoch", epoch},
                                            {"seq", seq},
                                            {"time", utc(time_ns)},
                                            {"id", id},
                                            {"body", body},
                                            {"verified", verified},
                                            {"signer", signer}}));
    } else if (options_.pretty) {
      say("{} {}\n  from {} seq {} {}\n", utc(time_ns), topic, publisher, seq,
          verified ? "signed by " + signer : "NOT VERIFIED");
      if (const proto::Map* map = body.as_map())
        for (const auto& [key, value] : *map) say("  {}: {}\n", key, proto::to_json(value));
    } else {
      say("{} {} {}:{} {}{}\n", utc(time_ns).substr(0, 19), topic, publisher, seq,
          proto::to_json(body), verified ? "" : " (not verified)");
    }
  }

  void gap(const peer::Gap& gap) {
    const proto::Value to = gap.to ? proto::Value(*gap.to) : proto::Value();
    if (options_.json)
      say("{}\n",
          proto::to_json(proto::Map{{"gap", proto::Map{{"publisher", gap.stream.publisher},
                                                       {"epoch", gap.epoch},
                                                       {"from", gap.from},
                                                       {"to", to},
                                                       {"reason", to_string(gap.reason)}}}}));
    else
      say("--- lost from {}: {} to {} ({})\n", gap.stream.publisher, gap.from,
          gap.to ? std::to_string(*gap.to) : "unknown", to_string(gap.reason));
  }

 private:
  // Straight to the descriptor: what is delivered must be out before the cursor says so, and stdio
  // loses its buffer when a signal interrupts a write.
  template <class... Args>
  static void say(fmt::format_string<Args...> format, Args&&... args) {
    const std::string text = fmt::format(format, std::forward<Args>(args)...);
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
      if (written > 0)
        rest.remove_prefix(static_cast<std::size_t>(written));
      else if (errno != EINTR)
        base::throw_errno("writing to standard output");
    }
  }

  const Options& options_;
  std::vector<proto::TopicPattern> exclude_;
  std::uint64_t printed_ = 0;
};

// Frames as they come, believed by nobody: for looking at a bus whose keys are not at hand.
int tail_unverified(const Options& options, const std::vector<proto::TopicPattern>& topics,
                    const std::vector<std::string>& endpoints, Printer& printer) {
  net::ZmqContext context;
  net::BlockingZmqSocket socket(context, net::ZmqType::Sub, net::ZmqOptions::subscriber());
  socket.subscribe("");
  for (const std::string& endpoint : endpoints) socket.connect(endpoint);
  const auto started = std::chrono::steady_clock::now();
  while (!printer.enough()) {
    if (options.timeout_s > 0 &&
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() >
            options.timeout_s)
      return options.count > 0 ? 1 : 0;
    const auto parts = socket.receive(std::chrono::milliseconds(100));
    if (!parts || parts->size() != 1) continue;
    const auto frame = proto::decode_event_frame(parts->front());
    if (!frame || !proto::valid_topic(frame->topic) || !proto::matches_any(topics, frame->topic))
      continue;
    const auto event = proto::decode_event(frame->event);
    const auto header = proto::decode_header(frame->header());
    if (!event || !header) continue;
    const auto body = proto::unpack(event->body);
    if (body)
      printer.event(frame->topic, "", "", header->epoch, event->seq, event->time_ns, "", *body,
                    false);
  }
  return 0;
}

int bus_tail(int argc, char** argv) {
  Options options;
  base::CommandLine line(
      "bus-tail", "Prints the events of a bus as they come: verified, in order, gaps named.");
  options.listen.add_to(line);
  line.option("--topic", options.topics,
              "only topics matching this pattern (* one word, ** any number)");
  line.option("--exclude", options.exclude, "leave out topics matching this pattern");
  line.option("--since", options.since,
              "now, start, a time (UTC), PUBLISHER:SEQ or PUBLISHER:EPOCH:SEQ");
  line.option("--cursor", options.cursor, "go on where this file says, and keep it up to date");
  line.option("--count", options.count, "end after this many events");
  line.option("--timeout", options.timeout_s,
              "end after this many seconds; 1 if --count was not reached");
  line.flag("--json", options.json, "one JSON object per line");
  line.flag("--pretty", options.pretty, "several lines per event");
  line.flag("--no-verify", options.no_verify, "print unverified frames, as they come");
  line.flag("--verbose", options.verbose, "say on stderr what is going on");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const auto since = parse_since(options.since);
  if (!since) {
    fmt::print(stderr,
               "bus-tail: --since takes now, start, a time like 2026-11-20T12:00:00, PUBLISHER:SEQ "
               "or PUBLISHER:EPOCH:SEQ\n");
    return 2;
  }
  const auto settings = options.listen.settings();
  if (!settings) {
    fmt::print(stderr, "bus-tail: {}\n", settings.error());
    return 2;
  }
  if (options.topics.empty()) options.topics = {"**"};
  const auto topics = topic_patterns(options.topics);
  Printer printer(options, topic_patterns(options.exclude));

  if (options.no_verify) {
    std::vector<std::string> endpoints;
    for (const auto& source : settings->discovery.fixed) endpoints.push_back(source.publish);
    return tail_unverified(options, topics, endpoints, printer);
  }
  if (settings->trust.allow.empty()) {
    fmt::print(stderr,
               "bus-tail: needs [[trust.allow]] rules in --config, or --keyring; or --no-verify\n");
    return 2;
  }

  base::SystemClock clock;
  base::Loop loop(clock);
  net::ZmqContext context;
  base::Registry registry;
  const base::Log log = options.verbose ? base::Log::to_stderr(base::LogLevel::Info)
                                        : base::Log::to_stderr(base::LogLevel::Error);
  peer::SubscriberOptions subscription;
  subscription.patterns = topics;
  subscription.start = *since;
  subscription.gap_after = settings->bus.gap_after;
  peer::Subscriber::Handlers handlers;
  handlers.on_event = [&](const peer::Delivery& event) {
    const auto body = proto::unpack(event.body);
    if (!body) return peer::Outcome::Undecodable;
    const std::string signer =
        event.stream.scheme == proto::Scheme::None
            ? "none"
            : trust::to_string({event.stream.scheme, event.stream.fingerprint});
    printer.event(event.topic, event.stream.publisher, signer, event.epoch, event.seq,
                  event.time_ns, peer::event_id(event.stream_id, event.epoch, event.seq), *body,
                  event.stream.scheme != proto::Scheme::None);
    if (printer.enough()) loop.stop();
    return peer::Outcome::Delivered;
  };
  handlers.on_gap = [&](const peer::Gap& gap) { printer.gap(gap); };
  peer::Subscriber subscriber(loop, context, subscription, settings->trust, options.cursor,
                              registry, log, std::move(handlers));
  peer::Sources sources(loop, settings->discovery, subscriber, registry, log);

  base::Timer timeout(loop);
  if (options.timeout_s > 0)
    timeout.start(std::chrono::duration_cast<base::Duration>(
                      std::chrono::duration<double>(options.timeout_s)),
                  [&] { loop.stop(); });
  base::Signals signals(loop, {SIGTERM, SIGINT}, [&](int) { loop.stop(); });
  loop.run();
  subscriber.save_cursor();
  const peer::SubscriberCounts& counts = subscriber.counts();
  log.info(
      "{} events, {} filtered, {} denied, {} undecodable, {} seen before, {} gaps, {} replayed",
      counts.delivered, counts.filtered, counts.denied, counts.undecodable, counts.duplicates,
      counts.gaps, counts.replayed);
  return options.count > 0 && !printer.enough() ? 1 : 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-tail", mirrorbus::tools::bus_tail, argc, argv);
}
