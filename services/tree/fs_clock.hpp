// The time as a filesystem stamps it. Its ticks are coarse (some milliseconds), so two changes may
// carry one stamp; and it is not this machine's clock on a network filesystem.
#pragma once

#include "bus/base/fd.hpp"

#include <ctime>

namespace mirrorbus::tree {

class FsClock {
 public:
  // Keeps a file of its own in directory `dir`.
  explicit FsClock(int dir);

  // Waits for the next tick. Every change made before the call has an earlier ctime than what is
  // returned, every later one an equal or later ctime.
  timespec tick();

 private:
  timespec stamp();
  base::Fd file_;
};

inline bool before(const timespec& a, const timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

}  // namespace mirrorbus::tree
