// bus-replay: delivers a range of a publisher's events once more, verified as when they were new:
// to standard output, to a program, or to a relay.
#include "bus/base/command_line.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/sha256.hpp"
#include "tools/event_printer.hpp"
#include "tools/event_program.hpp"
#include "tools/event_range.hpp"
#include "tools/listening.hpp"
#include "tools/relay_sender.hpp"
#include "tools/tool_config.hpp"

#include <algorithm>
#include <sstream>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kLook = 50ms;

struct Options {
  ListenOptions listen;
  std::string publisher, range;
  std::vector<std::string> topics, exclude;
  std::string exec;
  std::vector<std::string> arguments;
  std::string relay, token_file;
  double timeout_s = 60;
  bool keep_going = false, json = false, verbose = false;

  base::Duration timeout() const {
    return base::from_seconds(timeout_s);
  }
  // --exec alone is a line of words, with --arg beside it one program's name.
  std::vector<std::string> command() const {
    std::vector<std::string> words;
    std::istringstream line(exec);
    for (std::string word; arguments.empty() && line >> word;) words.push_back(word);
    if (!arguments.empty()) words.push_back(exec);
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }
};

// The first failure ends the run, unless it is to keep going.
struct Stopped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where events go.
class Destination {
 public:
  explicit Destination(const Options& options) : options_(options) {
    if (!options.exec.empty()) program_.emplace(options.command());
    if (options.relay.empty()) return;
    // One under way: the events keep their order whatever happens to the relay meanwhile.
    relay_.emplace(
        RelaySender::Options{options.relay, token_in(options.token_file), options.timeout(), 1},
        [](const proto::Submission&, std::uint64_t) {},
        [this](const proto::Submission& refused, const std::string& why) {
          fail(fmt::format("seq {}: {}", refused.n, why));
        });
  }

  void take(const peer::Delivery& delivery, const ShownEvent& event) {
    if (options_.json || (!program_ && !relay_)) printer_.event(event);
    if (program_)
      if (const std::string why = program_->run(event); !why.empty())
        fail(fmt::format("{}:{}:{} {}: {}", event.publisher, event.epoch, event.seq, event.topic,
                         why));
    if (relay_) {
      relay_->send({sender_of(delivery), delivery.seq, event.topic, proto::Bytes(delivery.body)});
      relay_->finish();
    }
  }
  void gap(const peer::Gap& gap) {
    if (options_.json || (!program_ && !relay_)) printer_.gap(gap);
  }
  std::uint64_t failures() const { return failures_; }

 private:
  // The same event has the same submission id whoever replays it, however often: a relay that has
  // it does not take it again.
  static proto::Bytes sender_of(const peer::Delivery& event) {
    std::string epoch;
    for (int shift = 56; shift >= 0; shift -= 8) epoch += static_cast<char>(event.epoch >> shift);
    const proto::Hash hash = proto::Sha256()
                                 .update(proto::ByteView("mirrorbus-replay", 16))
                                 .update(event.stream_id.view())
                                 .update(epoch)
                                 .finish();
    return proto::Bytes(hash.view().substr(0, proto::kSenderSize));
  }
  void fail(const std::string& why) {
    ++failures_;
    if (!options_.keep_going) throw Stopped(why);
    fmt::print(stderr, "bus-replay: {}\n", why);
  }

  const Options& options_;
  const EventPrinter printer_{EventPrinter::Style::Json};
  std::optional<EventProgram> program_;
  std::optional<RelaySender> relay_;
  std::uint64_t failures_ = 0;
};

// How far the range has come.
class Progress {
 public:
  Progress(const Options& options, const EventRange& range)
      : options_(options), range_(range), exclude_(topic_patterns(options.exclude)), to_(options) {}

  peer::Outcome event(const peer::Delivery& delivery) {
    if (done_ || delivery.stream.publisher != options_.publisher) return peer::Outcome::Delivered;
    if (stream_.value_or(delivery.stream_id) != delivery.stream_id)
      throw std::runtime_error("two keys publish as " + options_.publisher +
                               ": trust one of them only (--config, --keyring)");
    stream_ = delivery.stream_id;
    if (delivery.seq < range_.from || delivery.seq > last_) return peer::Outcome::Delivered;
    if (range_.epoch.value_or(delivery.epoch) != delivery.epoch) {
      ++of_other_epochs_;
      return peer::Outcome::Delivered;
    }
    const auto shown = ShownEvent::of(delivery);
    if (!shown) {
      fmt::print(stderr, "bus-replay: {}:{} has a body that nobody can read\n", options_.publisher,
                 delivery.seq);
      return peer::Outcome::Undecodable;
    }
    if (!proto::matches_any(exclude_, delivery.topic)) {
      to_.take(delivery, *shown);
      ++delivered_;
    }
    return peer::Outcome::Delivered;
  }

  void gap(const peer::Gap& gap) {
    if (done_ || gap.stream.publisher != options_.publisher || gap.from > last_) return;
    lost_ = true;
    peer::Gap in_range = gap;
    if (in_range.to) in_range.to = std::min(*in_range.to, last_);
    fmt::print(stderr, "bus-replay: lost from {}\n", gap_text(in_range));
    to_.gap(in_range);
  }

  // True once all of the range has gone by.
  bool look(const std::vector<peer::StreamInfo>& streams) {
    for (const peer::StreamInfo& info : streams) {
      if (info.name.publisher != options_.publisher || info.state == peer::StreamState::Joining)
        continue;
      // What comes after the beginning is not part of it, unless it is asked for by number.
      if (!joined_) last_ = std::min(range_.to.value_or(info.head_last), info.head_last);
      joined_ = true;
      done_ |= info.position >= last_;
    }
    return done_;
  }
  bool joined() const { return joined_; }

  // The exit code, and on stderr why it is not 0.
  int conclude() const {
    bool good = !lost_ && to_.failures() == 0;
    const auto complain = [&](const std::string& why) {
      fmt::print(stderr, "bus-replay: {}\n", why);
      good = false;
    };
    if (range_.from > last_ || range_.to.value_or(last_) > last_)
      complain(fmt::format("{} has published up to {} only", options_.publisher, last_));
    if (of_other_epochs_ > 0)
      complain(fmt::format("{} events of the range are not of epoch {}", of_other_epochs_,
                           *range_.epoch));
    if (to_.failures() > 0)
      complain(fmt::format("{} of {} events failed", to_.failures(), delivered_));
    return good ? 0 : 1;
  }

 private:
  const Options& options_;
  const EventRange range_;
  const std::vector<proto::TopicPattern> exclude_;
  Destination to_;
  std::optional<proto::Hash> stream_;
  std::uint64_t last_ = range_.to.value_or(UINT64_MAX);  // of the range that there is
  std::uint64_t delivered_ = 0, of_other_epochs_ = 0;
  bool joined_ = false, done_ = false, lost_ = false;
};

int replay(const Options& options, const EventRange& range, const peer::Settings& settings) {
  Progress progress(options, range);
  base::SystemClock clock;
  base::Loop loop(clock);
  net::ZmqContext context;
  base::Registry registry;
  const base::Log log =
      base::Log::to_stderr(options.verbose ? base::LogLevel::Info : base::LogLevel::Error);
  peer::SubscriberOptions wanted;
  wanted.patterns = topic_patterns(options.topics);
  wanted.start = peer::StartSeq{options.publisher, range.from, range.epoch};
  wanted.gap_after = options.timeout();
  peer::Subscriber::Handlers handlers;
  handlers.on_event = [&](const peer::Delivery& event) { return progress.event(event); };
  handlers.on_gap = [&](const peer::Gap& gap) { progress.gap(gap); };
  peer::Subscriber subscriber(loop, context, wanted, settings.trust, "", registry, log,
                              std::move(handlers));
  peer::Sources sources(loop, settings.discovery, "", registry, log);
  sources.tell(subscriber);
  base::Timer look(loop);
  const base::MonoTime join_by = loop.now().mono + options.timeout();
  const std::function<void()> tick = [&] {
    if (progress.look(subscriber.streams())) return loop.stop();
    if (!progress.joined() && loop.now().mono > join_by)
      throw std::runtime_error(
          fmt::format("nothing trusted is heard of {} in {} s: bus-check says what is wrong",
                      options.publisher, options.timeout_s));
    look.start(kLook, [&] { tick(); });
  };
  tick();
  loop.run();
  return progress.conclude();
}

int bus_replay(int argc, char** argv) {
  Options options;
  base::CommandLine line("bus-replay",
                         "Delivers a range of a publisher's events once more: verified, in order, "
                         "what is lost named. To standard output as bus-tail --json does, or:");
  line.option("publisher", options.publisher, "whose events, e.g. mirrord@origin1.example.org")
      .required();
  line.option("range", options.range, "FROM..TO, FROM.. (all from there on) or EPOCH:FROM..TO")
      .required();
  options.listen.add_to(line);
  line.option("--topic", options.topics,
              "only topics matching this pattern (* one word, ** any number)");
  line.option("--exclude", options.exclude, "leave out topics matching this pattern");
  const auto exec = line.option("--exec", options.exec,
                                "run this for each event, without a shell: the event on its "
                                "standard input, MIRRORBUS_TOPIC and others in its environment");
  line.option("--arg", options.arguments,
              "an argument for --exec, which then is the program's name alone");
  line.option("--to-relay", options.relay,
              "submit the events to the relay there; those it has had it takes once")
      .excludes(exec);
  line.option("--token-file", options.token_file,
              "show the relay the token on this file's first line");
  line.flag("--keep-going", options.keep_going, "do not end at the first event that fails");
  line.option("--timeout", options.timeout_s, "seconds without anything until it is given up");
  line.flag("--json", options.json, "print events with --exec and --to-relay too");
  line.flag("--verbose", options.verbose, "say on stderr what is going on");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const auto wrong_usage = [](const std::string& why) {
    fmt::print(stderr, "bus-replay: {}\n", why);
    return 2;
  };
  const auto range = EventRange::parse(options.range);
  if (!range)
    return wrong_usage("\"" + options.range + "\" is not FROM..TO, FROM.. or EPOCH:FROM..TO");
  if (options.exec.empty() && !options.arguments.empty()) return wrong_usage("--arg needs --exec");
  if (!options.exec.empty() && options.command().empty()) return wrong_usage("--exec is empty");
  if (options.timeout_s <= 0) return wrong_usage("--timeout takes seconds above 0");
  const auto settings = options.listen.settings();
  if (!settings) return wrong_usage(settings.error());
  if (settings->trust.allow.empty())
    return wrong_usage("needs [[trust.allow]] rules in --config, or --keyring");
  if (options.topics.empty()) options.topics = {"**"};
  return replay(options, *range, *settings);
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-replay", mirrorbus::tools::bus_replay, argc, argv);
}
