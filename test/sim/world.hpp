// A whole bus in one thread: real publishers and subscribers (their pure cores), with a network,
// disks and clocks that fail as a seed says. After the storm everything heals, and then the
// invariant must hold: every acknowledged event ended, for every subscriber, in exactly one of
// delivered, filtered, denied, undecodable, or a gap notice; in order; and once per life of the
// subscriber.
#pragma once

#include "bus/base/clock.hpp"

#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

namespace mirrorbus::sim {

using namespace std::chrono_literals;

// Virtual time and what is to happen in it.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  std::mt19937_64& random() { return random_; }
  std::uint64_t below(std::uint64_t n) {
    return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_);
  }
  bool chance(double p) { return std::bernoulli_distribution(p)(random_); }

  base::MonoTime time() const { return time_; }
  // A machine's clocks: its wall clock may be off.
  base::Now now(base::Duration wall_offset = {}) const {
    return {base::WallTime(std::chrono::seconds(1'800'000'000)) + time_.time_since_epoch() +
                wall_offset,
            time_};
  }

  void at(base::Duration after, std::function<void()> action) {
    queue_.push({time_ + after, next_++, std::move(action)});
  }
  void run_until(base::MonoTime end) {
    while (!queue_.empty() && queue_.top().time <= end) {
      Item item = queue_.top();
      queue_.pop();
      time_ = item.time;
      item.action();
    }
    time_ = end;
  }

 private:
  struct Item {
    base::MonoTime time;
    std::uint64_t order;
    std::function<void()> action;
    bool operator<(const Item& other) const {
      return std::tie(other.time, other.order) < std::tie(time, order);
    }
  };
  std::mt19937_64 random_;
  base::MonoTime time_{std::chrono::seconds(1)};
  std::uint64_t next_ = 0;
  std::priority_queue<Item> queue_;
};

// What one run saw; `problem` is empty if the invariant held.
struct Report {
  std::string problem;
  std::uint64_t acknowledged = 0;
  std::uint64_t delivered = 0;
  std::uint64_t filtered = 0;
  std::uint64_t denied = 0;
  std::uint64_t undecodable = 0;
  std::uint64_t gap_events = 0;
  std::uint64_t gaps = 0;
  std::uint64_t replays = 0;
  std::uint64_t crashes = 0;
};

// One seeded storm over a small network.
Report run_storm(std::uint64_t seed);

}  // namespace mirrorbus::sim
