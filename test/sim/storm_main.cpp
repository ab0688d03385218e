// storm [SEEDS] [FIRST]: runs that many seeded storms and prints what they saw, or the seed that
// broke the invariant.
#include "test/sim/world.hpp"

#include <cstdlib>
#include <exception>

#include <fmt/core.h>

int main(int argc, char** argv) try {
  const std::uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200;
  const std::uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  mirrorbus::sim::Report sum;
  std::uint64_t broken = 0;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    const auto report = mirrorbus::sim::run_storm(seed);
    if (!report.problem.empty()) {
      fmt::print("seed {}: {}\n", seed, report.problem);
      if (++broken == 10) break;
    }
    sum.acknowledged += report.acknowledged;
    sum.delivered += report.delivered;
    sum.filtered += report.filtered;
    sum.denied += report.denied;
    sum.undecodable += report.undecodable;
    sum.gap_events += report.gap_events;
    sum.gaps += report.gaps;
    sum.replays += report.replays;
    sum.crashes += report.crashes;
  }
  fmt::print(
      "{} storms: {} acknowledged events; {} delivered, {} filtered, {} denied, {} undecodable, "
      "{} in {} gaps; {} replays, {} crashes; {} storms broke the invariant\n",
      seeds, sum.acknowledged, sum.delivered, sum.filtered, sum.denied, sum.undecodable,
      sum.gap_events, sum.gaps, sum.replays, sum.crashes, broken);
  return broken == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  fmt::print(stderr, "storm: {}\n", error.what());
  return EXIT_FAILURE;
}
