// A clock that a test sets.
#pragma once

#include "bus/base/clock.hpp"

namespace mirrorbus::test {

struct VirtualClock final : base::Clock {
  base::Now time{base::WallTime(std::chrono::seconds(1'800'000'000)),
                 base::MonoTime(std::chrono::seconds(1))};
  base::Now now() const override { return time; }
  void pass(base::Duration by) {
    time.wall += by;
    time.mono += by;
  }
};

}  // namespace mirrorbus::test
