// How fast content may come in, at which hours, and how the site's rate is shared between trees. No
// I/O; the time is handed in. Any thread.
#pragma once

#include "bus/base/clock.hpp"

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace mirrorbus::mirror {

// Rates are bytes a second; none: as fast as it goes; 0: not at all.
struct RatePlan {
  struct Hours {
    unsigned from = 0, to = 0;  // minutes of the local day; over midnight if `to` is not later
    std::uint64_t rate = 0;
  };
  std::optional<std::uint64_t> usual{};
  std::vector<Hours> hours{};  // the first that fits counts, outside of all `usual`

  std::optional<std::uint64_t> at(unsigned minute) const;
};
unsigned local_minute(base::WallTime time);

class TransferRates {
 public:
  explicit TransferRates(RatePlan site) : site_(std::move(site)) {}

  // A tree's line; before anything is taken. Of the site's rate each tree that is at it gets a
  // share by `priority`.
  std::size_t add(RatePlan plan, unsigned priority);

  // `bytes` have come: after how long more may; nothing if it is not the hour for it.
  std::optional<base::Duration> take(std::size_t line, std::uint64_t bytes, base::Now now);
  bool open(std::size_t line, base::Now now) const;

 private:
  // A token bucket, as the time from when on its tokens suffice.
  struct Bucket {
    base::MonoTime free{};
    base::Duration take(std::uint64_t bytes, double rate, base::MonoTime now);
  };
  struct Line {
    RatePlan plan;
    unsigned priority;
    Bucket own{}, of_site{};
    std::optional<base::MonoTime> last{};  // when something was taken
  };
  mutable std::mutex mutex_;
  const RatePlan site_;
  std::vector<Line> lines_;
};

}  // namespace mirrorbus::mirror
