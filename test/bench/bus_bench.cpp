// Publish → verified delivery over TCP loopback, and bare libzmq beside it in the same run.
//
//   bus-bench [--events N] [--window W] [--rate R] …    prints a table; see docs/performance.md
//
// The publisher and the subscriber are the real ones, each on a loop and a thread of its own.
#include "bus/base/command_line.hpp"
#include "bus/net/zmq_handle.hpp"
#include "bus/peer/publisher.hpp"
#include "bus/peer/subscriber.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include <fmt/core.h>
#include <sys/resource.h>

namespace mirrorbus::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct Options {
  std::uint64_t events = 1'000'000;
  std::uint64_t window = 50'000;
  std::uint64_t rate = 10'000;
  double seconds = 5;  // of a paced run
  std::string state = "/var/tmp";
  std::string only;
};

struct Result {
  double per_second = 0;
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double cpu_s = 0;
  std::uint64_t events = 0;
  std::uint64_t replayed = 0;
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
}

// A body of about `size` bytes that begins with the time it was made: a msgpack map {t, d}.
proto::Bytes body_of(std::size_t size) {
  proto::Bytes body("\x82\xa1t\xcf", 4);
  const std::uint64_t time = now_ns();
  for (int shift = 56; shift >= 0; shift -= 8) body += static_cast<char>(time >> shift);
  const std::size_t rest = size > body.size() + 5 ? size - body.size() - 5 : 0;
  body +=
      "\xa1"
      "d\xc5";
  body += static_cast<char>(rest >> 8);
  body += static_cast<char>(rest);
  body.append(rest, 'x');
  return body;
}
std::uint64_t time_in(proto::ByteView body) {
  std::uint64_t time = 0;
  for (std::size_t i = 4; i < 12; ++i) time = time << 8 | static_cast<unsigned char>(body[i]);
  return time;
}

struct Tally {
  std::atomic<std::uint64_t> received{0};
  std::vector<std::uint32_t> latencies_us;
  bool keep = false;

  void take(proto::ByteView body) {
    if (keep) latencies_us.push_back(static_cast<std::uint32_t>((now_ns() - time_in(body)) / 1000));
    received.fetch_add(1, std::memory_order_release);
  }
  void summarise(Result& result) {
    if (latencies_us.empty()) return;
    std::ranges::sort(latencies_us);
    const auto at = [&](double q) {
      return static_cast<double>(
          latencies_us[static_cast<std::size_t>(q * static_cast<double>(latencies_us.size() - 1))]);
    };
    result.p50_us = at(0.5);
    result.p99_us = at(0.99);
    result.p999_us = at(0.999);
  }
};

// How fast to offer events: as the window allows, or so many a second.
class Pace {
 public:
  Pace(const Options& options, bool paced, const Tally& tally)
      : window_(options.window),
        rate_(paced ? options.rate : 0),
        total_(paced
                   ? static_cast<std::uint64_t>(static_cast<double>(options.rate) * options.seconds)
                   : options.events),
        tally_(tally) {}
  bool done() const { return sent_ == total_; }
  std::uint64_t total() const { return total_; }
  std::uint64_t due() {
    if (start_ == Clock::time_point{}) start_ = Clock::now();
    if (rate_ > 0) {
      const auto target =
          static_cast<std::uint64_t>(std::chrono::duration<double>(Clock::now() - start_).count() *
                                     static_cast<double>(rate_));
      return std::min(target, total_) - std::min(sent_, target);
    }
    const std::uint64_t in_flight = sent_ - tally_.received.load(std::memory_order_acquire);
    return std::min(total_ - sent_,
                    in_flight < window_ ? std::min<std::uint64_t>(window_ - in_flight, 256) : 0);
  }
  void sent() { ++sent_; }

 private:
  std::uint64_t window_, rate_, total_, sent_ = 0;
  const Tally& tally_;
  Clock::time_point start_{};
};

// libzmq alone: PUB and SUB, the same pacing, no numbers, no seals, no journal.
Result bare(const Options& options, std::size_t size, bool paced) {
  net::ZmqContext context;
  net::ZmqOptions out = net::ZmqOptions::publisher();
  out.send_hwm = 200'000;
  net::ZmqHandle pub(context, net::ZmqType::XPub, out);
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  Tally tally;
  tally.keep = paced;
  Pace pace(options, paced, tally);
  std::thread subscriber([&] {
    net::ZmqOptions in = net::ZmqOptions::subscriber();
    in.receive_hwm = 200'000;
    net::ZmqHandle sub(context, net::ZmqType::Sub, in);
    sub.subscribe("");
    sub.connect(endpoint);
    net::ZmqFrame frame;
    while (tally.received < pace.total()) {
      if (!sub.receive(frame)) {
        sub.wait(false, 100ms);
        continue;
      }
      tally.take(frame.bytes());
    }
  });
  net::ZmqFrame joined;
  while (!pub.receive(joined)) pub.wait(false, 100ms);  // the subscription has arrived
  Result result;
  const double cpu = cpu_seconds();
  const auto start = Clock::now();
  while (!pace.done()) {
    const std::uint64_t due = pace.due();
    if (due == 0) std::this_thread::sleep_for(50us);
    for (std::uint64_t i = 0; i < due; ++i, pace.sent()) pub.send(body_of(size));
  }
  subscriber.join();
  result.per_second = static_cast<double>(pace.total()) /
                      std::chrono::duration<double>(Clock::now() - start).count();
  result.cpu_s = cpu_seconds() - cpu;
  result.events = tally.received;
  tally.summarise(result);
  return result;
}

peer::Settings settings_for(const std::string& state, bool durable) {
  peer::Settings settings;
  settings.bus.prefix = "org.example";
  settings.bus.environment = "dev";
  settings.bus.publisher = "bench@localhost";
  settings.bus.state = state;
  settings.bus.publish = "tcp://127.0.0.1:*";
  settings.bus.durable = durable;
  peer::AllowSettings allow;
  allow.topics = {"**"};
  allow.unsigned_streams = true;
  settings.trust.allow.push_back(allow);
  return settings;
}

Result bus(const Options& options, std::size_t size, bool durable, bool paced) {
  const std::string state = options.state + "/bus-bench-" + std::to_string(getpid());
  std::filesystem::create_directories(state);
  const peer::Settings settings = settings_for(state, durable);
  base::SystemClock clock;
  net::ZmqContext context;
  Tally tally;
  tally.keep = paced;
  Pace pace(options, paced, tally);
  std::atomic<bool> joined = false;

  base::Loop publishing(clock), subscribing(clock);
  base::Registry publisher_metrics, subscriber_metrics;
  Result result;
  {
    peer::ServeServer serve(publishing, context, publisher_metrics);
    const std::string serve_endpoint = serve.bind("tcp://127.0.0.1:*");
    peer::Publisher publisher(publishing, context, settings, serve, serve_endpoint, "",
                              publisher_metrics, base::Log(),
                              [](std::exception_ptr error) { std::rethrow_exception(error); });
    std::thread subscriber_thread([&] {
      peer::SubscriberOptions subscription;
      subscription.patterns = {*proto::TopicPattern::parse("org.example.dev.bench.**")};
      peer::Subscriber::Handlers handlers;
      handlers.on_event = [&](const peer::Delivery& event) {
        tally.take(event.body);
        if (tally.received == pace.total()) subscribing.stop();
        return peer::Outcome::Delivered;
      };
      peer::Subscriber subscriber(subscribing, context, subscription, settings.trust, "",
                                  subscriber_metrics, base::Log(), std::move(handlers));
      subscriber.add_publisher(publisher.endpoint());
      base::Timer watch(subscribing);
      std::function<void()> look = [&] {
        for (const auto& stream : subscriber.streams())
          if (stream.state == peer::StreamState::Current) joined = true;
        if (!joined) watch.start(10ms, [&] { look(); });
      };
      look();
      subscribing.run();
      const auto& counts = subscriber.counts();
      result.replayed = counts.replayed;
      if (counts.gaps + counts.denied + counts.undecodable > 0)
        throw std::runtime_error("events were lost in the benchmark");
    });
    double cpu = 0;
    Clock::time_point start;
    base::Timer feed(publishing);
    std::function<void()> step = [&] {
      if (!joined) return feed.start(1ms, [&] { step(); });
      if (start == Clock::time_point{}) {
        start = Clock::now();
        cpu = cpu_seconds();
      }
      const std::uint64_t now_due = pace.due();
      for (std::uint64_t due = now_due; due > 0; --due) {
        if (!publisher.publish("org.example.dev.bench.event", body_of(size))) break;
        pace.sent();
      }
      if (pace.done()) return;
      // As the bare publisher does: where there is nothing to send it leaves the processor to others.
      if (paced || now_due == 0)
        feed.start(50us, [&] { step(); });
      else
        publishing.post([&] { step(); });
    };
    publisher.on_ready([&] { step(); });
    // It goes on answering until the last event is in: what the pipe dropped comes by replay.
    std::thread publisher_thread([&] { publishing.run(); });
    subscriber_thread.join();
    result.per_second = static_cast<double>(pace.total()) /
                        std::chrono::duration<double>(Clock::now() - start).count();
    result.cpu_s = cpu_seconds() - cpu;
    publishing.post([&] { publishing.stop(); });
    publisher_thread.join();
  }
  result.events = tally.received;
  tally.summarise(result);
  std::filesystem::remove_all(state);
  return result;
}

void row(const char* what, std::size_t size, const Result& r, bool paced, const Result& bare) {
  if (paced)
    fmt::print(
        "{:<34} {:>6} B  p50 {:>7.0f} us  p99 {:>7.0f} us  p99.9 {:>7.0f} us  cpu {:>5.1f} s\n",
        what, size, r.p50_us, r.p99_us, r.p999_us, r.cpu_s);
  else
    fmt::print("{:<34} {:>6} B  {:>10.0f} events/s  {:>5.2f} x bare  cpu {:>5.1f} s\n", what, size,
               r.per_second, r.per_second / bare.per_second, r.cpu_s);
  if (r.replayed > 0) fmt::print("{:>34}   of these replayed: {}\n", "", r.replayed);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  Options options;
  base::CommandLine line("bus-bench", "Publish to verified delivery, bare libzmq beside it.");
  line.option("--events", options.events, "per throughput run");
  line.option("--window", options.window, "events in flight");
  line.option("--rate", options.rate, "events a second of the paced runs");
  line.option("--seconds", options.seconds, "length of a paced run");
  line.option("--only", options.only, "off, on (the journal) or paced: only those rows");
  line.option("--state", options.state, "where the journal is put");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;
  const auto wanted = [&](const char* kind) {
    return options.only.empty() || options.only == kind;
  };
  for (const std::size_t size : {std::size_t{64}, std::size_t{512}}) {
    const Result alone = bare(options, size, false);
    row("bare libzmq, lossless window", size, alone, false, alone);
    if (wanted("off")) row("bus, journal off", size, bus(options, size, false, false), false, alone);
    if (wanted("on")) row("bus, journal on", size, bus(options, size, true, false), false, alone);
  }
  if (!wanted("paced")) return 0;
  const Result alone = bare(options, 512, true);
  row("bare libzmq, paced", 512, alone, true, alone);
  row("bus, journal on, paced", 512, bus(options, 512, true, true), true, alone);
  return 0;
}

}  // namespace
}  // namespace mirrorbus::bench

int main(int argc, char** argv) try {
  return mirrorbus::bench::run(argc, argv);
} catch (const std::exception& error) {
  fmt::print(stderr, "bus-bench: {}\n", error.what());
  return 1;
}
