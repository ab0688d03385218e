// bus-tail: prints events as they come, verified, in order, with gaps named.
#include "bus/base/command_line.hpp"
#include "bus/base/signals.hpp"
#include "bus/net/zmq_blocking.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/batch.hpp"
#include "proto/event.hpp"
#include "tools/event_filter.hpp"
#include "tools/event_printer.hpp"
#include "tools/event_range.hpp"
#include "tools/listening.hpp"
#include "tools/time_text.hpp"
#include "tools/tool_config.hpp"

#include <algorithm>
#include <csignal>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

constexpr base::Duration kLook = std::chrono::milliseconds(200);

struct Options {
  ListenOptions listen;
  std::vector<std::string> topics, exclude, publishers, where;
  std::string cursor;
  std::string since = "now", until;
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

// A line on standard error, for people, while there is much to come.
class Progress {
 public:
  void show(const std::vector<peer::StreamInfo>& streams) {
    std::uint64_t left = 0;
    for (const peer::StreamInfo& info : streams)
      if (info.state == peer::StreamState::Behind) left += info.wanted - info.position;
    if (left == 0) return clear();
    if (!terminal_) return;
    fmt::print(stderr, "\r\033[Kcatching up: {} events to go", left);
    shown_ = true;
  }
  void clear() {
    if (std::exchange(shown_, false)) fmt::print(stderr, "\r\033[K");
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO);
  bool shown_ = false;
};

// Counts what is printed, and leaves out what is not wanted.
class Output {
 public:
  Output(const Options& options, EventFilter filter)
      : options_(options),
        filter_(std::move(filter)),
        printer_(options.json     ? EventPrinter::Style::Json
                 : options.pretty ? EventPrinter::Style::Pretty
                                  : EventPrinter::Style::Line) {}

  bool enough() const { return options_.count > 0 && printed_ >= options_.count; }
  void event(const ShownEvent& event) {
    if (enough() || !filter_.wants(event)) return;
    ++printed_;
    progress_.clear();
    printer_.event(event);
  }
  void gap(const peer::Gap& gap) {
    if (!filter_.wants_publisher(gap.stream.publisher)) return;
    progress_.clear();
    printer_.gap(gap);
  }
  Progress& progress() { return progress_; }

 private:
  const Options& options_;
  const EventFilter filter_;
  const EventPrinter printer_;
  Progress progress_;
  std::uint64_t printed_ = 0;
};

// --until: each stream ends with its first event from then on, or where it is once that time is
// over.
class End {
 public:
  End(std::optional<std::uint64_t> until_ns, base::Now begin)
      : until_ns_(until_ns), settled_(begin.wall + kSettle) {
    if (until_ns) settled_ = std::max(settled_, base::from_ns(*until_ns) + kSettle);
  }

  bool is_beyond(const peer::Delivery& event) {
    const bool beyond = until_ns_ && event.time_ns >= *until_ns_;
    if (beyond) ended_.insert(event.stream_id);
    return beyond;
  }
  bool reached(const std::vector<peer::StreamInfo>& streams, base::Now now) const {
    return until_ns_ && now.wall >= settled_ && !streams.empty() &&
           std::ranges::all_of(streams, [this](const peer::StreamInfo& info) {
             return ended_.contains(info.id) || (info.state != peer::StreamState::Joining &&
                                                 info.state != peer::StreamState::Behind);
           });
  }

 private:
  // By then every publisher that is there has sent a head, and what it speaks of is known.
  static constexpr base::Duration kSettle = std::chrono::seconds(3);

  const std::optional<std::uint64_t> until_ns_;
  base::WallTime settled_;
  std::set<proto::Hash> ended_;
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

int tail(const Options& options, const peer::Settings& settings,
         const std::vector<proto::TopicPattern>& topics, const peer::Start& since,
         std::optional<std::uint64_t> until_ns, Output& output) {
  base::SystemClock clock;
  base::Loop loop(clock);
  net::ZmqContext context;
  base::Registry registry;
  const base::Log log = options.verbose ? base::Log::to_stderr(base::LogLevel::Info)
                                        : base::Log::to_stderr(base::LogLevel::Error);
  peer::SubscriberOptions subscription;
  subscription.patterns = topics;
  subscription.start = since;
  subscription.gap_after = settings.bus.gap_after;
  End end(until_ns, loop.now());
  peer::Subscriber* hearing = nullptr;
  peer::Subscriber::Handlers handlers;
  handlers.on_event = [&](const peer::Delivery& event) {
    const auto shown = ShownEvent::of(event);
    if (!shown) return peer::Outcome::Undecodable;
    if (output.enough() || end.is_beyond(event)) return peer::Outcome::Delivered;
    output.event(*shown);
    if (output.enough()) {
      // What comes behind it in the same answer is not printed: the next run's events.
      hearing->save_cursor();
      loop.stop();
    }
    return peer::Outcome::Delivered;
  };
  handlers.on_gap = [&](const peer::Gap& gap) { output.gap(gap); };
  peer::Subscriber subscriber(loop, context, subscription, settings.trust, options.cursor, registry,
                              log, std::move(handlers));
  hearing = &subscriber;
  peer::Sources sources(loop, settings.discovery, "", registry, log);
  sources.tell(subscriber);

  base::Timer timeout(loop);
  if (options.timeout_s > 0)
    timeout.start(base::from_seconds(options.timeout_s), [&] { loop.stop(); });
  base::Timer look(loop);
  const std::function<void()> tick = [&] {
    const auto streams = subscriber.streams();
    output.progress().show(streams);
    if (end.reached(streams, loop.now())) return loop.stop();
    look.start(kLook, [&] { tick(); });
  };
  tick();
  base::Signals signals(loop, {SIGTERM, SIGINT}, [&](int) { loop.stop(); });
  loop.run();
  output.progress().clear();
  if (!output.enough()) subscriber.save_cursor();
  const peer::SubscriberCounts& counts = subscriber.counts();
  log.info(
      "{} events, {} filtered, {} denied, {} undecodable, {} seen before, {} gaps, {} replayed",
      counts.delivered, counts.filtered, counts.denied, counts.undecodable, counts.duplicates,
      counts.gaps, counts.replayed);
  return options.count > 0 && !output.enough() ? 1 : 0;
}

int bus_tail(int argc, char** argv) {
  Options options;
  base::CommandLine line(
      "bus-tail", "Prints the events of a bus as they come: verified, in order, gaps named.");
  options.listen.add_to(line);
  line.option("--topic", options.topics,
              "only topics matching this pattern (* one word, ** any number)");
  line.option("--exclude", options.exclude, "leave out topics matching this pattern");
  line.option("--publisher", options.publishers,
              "only of publishers with such a name (a shell pattern)");
  line.option("--where", options.where,
              "only events whose body has FIELD=VALUE; a field in a field as FIELD.FIELD=VALUE");
  line.option("--since", options.since,
              "now, start, a time (UTC), PUBLISHER:SEQ or PUBLISHER:EPOCH:SEQ");
  const auto until =
      line.option("--until", options.until, "end with the last event before this time (UTC)");
  line.option("--cursor", options.cursor, "go on where this file says, and keep it up to date")
      .excludes(until);
  line.option("--count", options.count, "end after this many events");
  line.option("--timeout", options.timeout_s,
              "end after this many seconds; 1 if --count was not reached");
  line.flag("--json", options.json, "one JSON object per line");
  line.flag("--pretty", options.pretty, "several lines per event");
  line.flag("--no-verify", options.no_verify, "print unverified frames, as they come");
  line.flag("--verbose", options.verbose, "say on stderr what is going on");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const auto wrong_usage = [](const std::string& why) {
    fmt::print(stderr, "bus-tail: {}\n", why);
    return 2;
  };
  const auto since = parse_since(options.since);
  if (!since)
    return wrong_usage(
        "--since takes now, start, a time like 2026-11-20T12:00:00, PUBLISHER:SEQ "
        "or PUBLISHER:EPOCH:SEQ");
  const auto until_ns = parse_time(options.until);
  if (!options.until.empty() && !until_ns)
    return wrong_usage("--until takes a time like 2026-11-20T12:00:00");
  EventFilter filter{options.publishers, topic_patterns(options.exclude), {}};
  for (const std::string& text : options.where) {
    auto test = FieldTest::parse(text);
    if (!test) return wrong_usage("--where takes FIELD=VALUE, or FIELD.FIELD=VALUE");
    filter.fields.push_back(std::move(*test));
  }
  if (options.no_verify && (!options.publishers.empty() || until_ns))
    return wrong_usage(
        "unverified frames name no publisher: no --publisher or --until with "
        "--no-verify");
  const auto settings = options.listen.settings();
  if (!settings) return wrong_usage(settings.error());
  if (options.topics.empty()) options.topics = {"**"};
  const auto topics = topic_patterns(options.topics);
  Output output(options, std::move(filter));

  if (options.no_verify) {
    std::vector<std::string> endpoints;
    for (const auto& source : settings->discovery.fixed) endpoints.push_back(source.publish);
    return tail_unverified(options, topics, endpoints, output);
  }
  if (settings->trust.allow.empty())
    return wrong_usage("needs [[trust.allow]] rules in --config, or --keyring; or --no-verify");
  return tail(options, *settings, topics, *since, until_ns, output);
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-tail", mirrorbus::tools::bus_tail, argc, argv);
}
