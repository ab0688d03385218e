// A loop for tests that need the real one: turn it until something is so, with a deadline.
#pragma once

#include "bus/base/loop.hpp"

namespace mirrorbus::test {

struct TestLoop {
  base::SystemClock clock;
  base::Loop loop{clock};

  template <class Condition>
  bool until(Condition condition, base::Duration deadline = std::chrono::seconds(10)) {
    const base::MonoTime end = clock.now().mono + deadline;
    while (!condition()) {
      const base::Duration left = end - clock.now().mono;
      if (left <= base::Duration::zero()) return false;
      loop.run_one(std::min<base::Duration>(left, std::chrono::milliseconds(20)));
    }
    return true;
  }
  // Everything that is ready now, and what that makes ready, at most `turns` callbacks.
  void settle(int turns = 1000) {
    while (turns-- > 0 && loop.run_one(base::Duration::zero())) {
    }
  }
};

}  // namespace mirrorbus::test
