// Publish → verified delivery over TCP loopback, and bare libzmq beside it in the same run.
//
//   bus-bench [--events N] [--window W] [--rate R] …    prints a table; see docs/performance.md
#include "bus/base/command_line.hpp"
#include "test/bench/contenders.hpp"

#include <fmt/core.h>

namespace mirrorbus::bench {
namespace {

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

// A peer that fails is no figure; the others still are.
void row_of(const char* what, std::size_t size, bool paced, const Result& bare,
            const std::function<Result()>& measure) {
  try {
    row(what, size, measure(), paced, bare);
  } catch (const std::exception& error) {
    fmt::print("{:<34} {:>6} B  no figure: {}\n", what, size, error.what());
  }
}

void throughput(const Options& options, std::size_t size) {
  const Result alone = bare(options, size, false);
  row("bare libzmq, lossless window", size, alone, false, alone);
  row("bus, journal off", size, bus(options, size, false, false), false, alone);
  row("bus, journal on", size, bus(options, size, true, false), false, alone);
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    row_of("JetStream R1, in files", size, false, alone,
           [&] { return jetstream(options, size, false); });
#endif
#ifdef MIRRORBUS_WITH_MOSQUITTO
  if (runs(options, "mosquitto"))
    row_of("mosquitto, QoS 1", size, false, alone, [&] { return mqtt(options, size); });
#endif
}

void paced(const Options& options) {
  const Result alone = bare(options, 512, true);
  row("bare libzmq, paced", 512, alone, true, alone);
  row("bus, journal on, paced", 512, bus(options, 512, true, true), true, alone);
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    row_of("JetStream R1, paced", 512, true, alone, [&] { return jetstream(options, 512, true); });
#endif
}

void replay(const Options& options) {
  const Result alone = bare(options, 64, false);
  row("bare libzmq, lossless window", 64, alone, false, alone);
  row("bus, replay", 64, bus_replay(options, 64, 256), false, alone);
  row("bus, replay of one-event batches", 64, bus_replay(options, 64, 1), false, alone);
#ifdef MIRRORBUS_WITH_NATS
  if (runs(options, "nats-server"))
    row_of("JetStream R1, ordered replay", 64, false, alone,
           [&] { return jetstream_replay(options, 64); });
#endif
}

int run(int argc, char** argv) {
  Options options;
  base::CommandLine line("bus-bench", "Publish to verified delivery, peers beside it.");
  line.option("--events", options.events, "per throughput run");
  line.option("--window", options.window, "events in flight");
  line.option("--rate", options.rate, "events a second of the paced runs");
  line.option("--seconds", options.seconds, "length of a paced run");
  line.option("--only", options.only, "throughput, paced or replay: only those rows");
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
