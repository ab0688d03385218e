// Publish → verified delivery over TCP loopback, and bare libzmq beside it in the same run.
//
//   bus-bench [--events N] [--window W] [--rate R] …    prints a table; see docs/performance.md
#include "bus/base/command_line.hpp"
#include "test/bench/contenders.hpp"

#include <fmt/core.h>

namespace mirrorbus::bench {
namespace {

void print(const std::string& what, std::size_t size, const Result& r, bool paced,
           const Result& bare) {
  fmt::print("{:<34} {:>4} B ", what, size);
  if (paced)
    fmt::print("p50 {:>6.0f} us  p99 {:>6.0f} us  p99.9 {:>6.0f} us", r.p50_us, r.p99_us, r.p999_us);
  else
    fmt::print("{:>9.0f} events/s  {:>5.2f} x bare", r.per_second, r.per_second / bare.per_second);
  fmt::print("  cpu {:>5.1f} s  {:>5.0f} MB\n", r.cpu_s, r.rss_mb);
  if (r.replayed > 0) fmt::print("{:>34}   of these replayed: {}\n", "", r.replayed);
  std::fflush(stdout);
}

// The rows of one comparison: bare libzmq first, which gives the ratio.
class Rows {
 public:
  Rows(std::size_t size, bool paced) : size_(size), paced_(paced) {}

  // A contender that fails is no figure; the others still are.
  void add(const std::string& what, const std::function<Result()>& measure) {
    try {
      const Result result = measured(measure);
      if (first_) bare_ = result;
      first_ = false;
      print(what, size_, result, paced_, bare_);
    } catch (const std::exception& error) {
      fmt::print("{:<34} {:>4} B no figure: {}\n", what, size_, error.what());
    }
  }

 private:
  std::size_t size_;
  bool paced_, first_ = true;
  Result bare_;
};

void throughput(const Options& options, std::size_t size) {
  Rows rows(size, false);
  rows.add("bare libzmq, lossless window", [&] { return bare(options, size, false); });
  rows.add("bus, journal off", [&] { return bus(options, size, false, false); });
  rows.add("bus, journal on", [&] { return bus(options, size, true, false); });
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    rows.add("JetStream R1, in files", [&] { return jetstream(options, size, false); });
#endif
#ifdef MIRRORBUS_WITH_MOSQUITTO
  if (runs(options, "mosquitto")) rows.add("mosquitto, QoS 1", [&] { return mqtt(options, size); });
#endif
}

void paced(const Options& options) {
  Rows rows(512, true);
  rows.add("bare libzmq, paced", [&] { return bare(options, 512, true); });
  rows.add("bus, journal on, paced", [&] { return bus(options, 512, true, true); });
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    rows.add("JetStream R1, paced", [&] { return jetstream(options, 512, true); });
#endif
}

// Each event goes to all of them: the figure is events published a second, deliveries are so many
// times more.
void fan_out(Options options) {
  const std::uint64_t deliveries = options.events;
  for (const std::uint64_t subscribers : {10, 100}) {
    options.subscribers = subscribers;
    options.events = deliveries / subscribers;
    Rows rows(512, false);
    rows.add(fmt::format("bare libzmq, {} subscribers", subscribers),
             [&] { return bare(options, 512, false); });
    rows.add(fmt::format("bus, journal on, {} subscribers", subscribers),
             [&] { return bus(options, 512, true, false); });
  }
}

void replay(const Options& options) {
  Rows rows(64, false);
  rows.add("bare libzmq, lossless window", [&] { return bare(options, 64, false); });
  rows.add("bus, replay", [&] { return bus_replay(options, 64, 256); });
  rows.add("bus, replay of one-event batches", [&] { return bus_replay(options, 64, 1); });
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    rows.add("JetStream R1, ordered replay", [&] { return jetstream_replay(options, 64); });
#endif
}

int run(int argc, char** argv) {
  Options options;
  base::CommandLine line("bus-bench", "Publish to verified delivery, peers beside it.");
  line.option("--events", options.events, "per throughput run");
  line.option("--window", options.window, "events in flight");
  line.option("--rate", options.rate, "events a second of the paced runs");
  line.option("--seconds", options.seconds, "length of a paced run");
  line.option("--only", options.only, "throughput, paced, fan-out or replay: only those rows");
  line.option("--size", options.size, "64 or 512: only these throughput rows");
  line.flag("--no-peers", options.no_peers, "without JetStream and mosquitto");
  line.option("--state", options.state, "where journals are put");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;
  const auto wanted = [&](const char* kind) {
    return options.only.empty() || options.only == kind;
  };
  if (wanted("throughput"))
    for (const std::uint64_t size : {std::uint64_t{64}, std::uint64_t{512}})
      if (options.size == 0 || options.size == size) throughput(options, size);
  if (wanted("paced")) paced(options);
  if (wanted("fan-out")) fan_out(options);
  if (wanted("replay")) replay(options);
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
