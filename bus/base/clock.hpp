// Time as protocol code sees it: handed in, never asked for. Two clocks, because a wall clock jumps
// (leap of ntpd, an operator's hand) and a monotonic one says nothing about other machines.
#pragma once

#include <chrono>
#include <cstdint>

namespace mirrorbus::base {

using Duration = std::chrono::nanoseconds;
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;
// Since an arbitrary start; never goes back.
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

struct Now {
  WallTime wall;
  MonoTime mono;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Now now() const = 0;
};

class SystemClock final : public Clock {
 public:
  Now now() const override {
    return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
  }
};

// As people write durations, and read them.
inline Duration from_seconds(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}
inline double to_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// The formats carry wall time as unsigned nanoseconds since 1970; earlier clocks read as 0.
inline std::uint64_t to_ns(WallTime time) {
  const auto ns = time.time_since_epoch().count();
  return ns < 0 ? 0 : static_cast<std::uint64_t>(ns);
}
inline WallTime from_ns(std::uint64_t ns) {
  constexpr std::uint64_t kMax = INT64_MAX;
  return WallTime(Duration(static_cast<std::int64_t>(ns < kMax ? ns : kMax)));
}

}  // namespace mirrorbus::base
