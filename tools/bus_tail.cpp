// bus-tail: prints events as they come, verified, in order, with gaps named.
#include "bus/base/command_line.hpp"
#include "bus/base/signals.hpp"
#include "bus/net/zmq_blocking.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/batch.hpp"
#include "proto/event.hpp"
#include "tools/event_printer.hpp"
#include "tools/event_range.hpp"
#include "tools/listening.hpp"
#include "tools/time_text.hpp"
#include "tools/tool_config.hpp"

#include <csignal>

#include <fmt/core.h>

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

// Counts what is printed, and leaves out what is not wanted.
class Output {
 public:
  explicit Output(const Options& options)
      : options_(options),
        exclude_(topic_patterns(options.exclude)),
        printer_(options.json     ? EventPrinter::Style::Json
                 : options.pretty ? EventPrinter::Style::Pretty
                                  : EventPrinter::Style::Line) {}

  bool enough() const { return options_.count > 0 && printed_ >= options_.count; }
  void event(const ShownEvent& event) {
    if (enough() || proto::matches_any(exclude_, event.topic)) return;
    ++printed_;
    printer_.event(event);
  }
  void gap(const peer::Gap& gap) { printer_.gap(gap); }

 private:
  const Options& options_;
  const std::vector<proto::TopicPattern> exclude_;
  const EventPrinter printer_;
  std::uint64_t printed_ = 0;
};

// Frames as they come, believed by nobody: for looking at a bus whose keys are not at hand.
int tail_unverified(const Options& options, const std::vector<proto::TopicPattern>& topics,
                    const std::vector<std::string>& endpoints, Output& output) {
  net::ZmqContext context;
  net::BlockingZmqSocket socket(context, net::ZmqType::Sub, net::ZmqOptions::subscriber());
  socket.subscribe("");
  for (const std::string& endpoint : endpoints) socket.connect(endpoint);
  const auto started = std::chrono::steady_clock::now();
  while (!output.enough()) {
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
    auto body = proto::unpack(event->body);
    if (!body) continue;
    ShownEvent shown;
    shown.topic = frame->topic;
    shown.epoch = header->epoch;
    shown.seq = event->seq;
    shown.time_ns = event->time_ns;
    shown.body = std::move(*body);
    output.event(shown);
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
  Output output(options);

  if (options.no_verify) {
    std::vector<std::string> endpoints;
    for (const auto& source : settings->discovery.fixed) endpoints.push_back(source.publish);
    return tail_unverified(options, topics, endpoints, output);
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
    const auto shown = ShownEvent::of(event);
    if (!shown) return peer::Outcome::Undecodable;
    output.event(*shown);
    if (output.enough()) loop.stop();
    return peer::Outcome::Delivered;
  };
  handlers.on_gap = [&](const peer::Gap& gap) { output.gap(gap); };
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
  return options.count > 0 && !output.enough() ? 1 : 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-tail", mirrorbus::tools::bus_tail, argc, argv);
}
