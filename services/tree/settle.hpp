// When a version may be closed by itself: once the tree has been quiet. Pure.
#pragma once

#include "bus/base/clock.hpp"

#include <algorithm>
#include <optional>

namespace mirrorbus::tree {

class Settle {
 public:
  // `quiet`: how long nothing may have changed. `max_wait`: unrest longer than this is worth a warning
  // (zero: never); it does not close a version, since half of an update is worse than a late one.
  Settle(base::Duration quiet, base::Duration max_wait) : quiet_(quiet), max_wait_(max_wait) {}

  void changed(base::MonoTime now) {
    if (!first_) first_ = now;
    last_ = now;
  }
  // When it will be time, if nothing more changes.
  std::optional<base::MonoTime> due() const {
    if (!last_) return std::nullopt;
    return *last_ + quiet_;
  }
  bool ripe(base::MonoTime now) const { return last_ && now >= *last_ + quiet_; }
  // Once per unrest.
  bool too_long(base::MonoTime now) {
    if (max_wait_ == base::Duration::zero() || !first_ || warned_ || now < *first_ + max_wait_) return false;
    return warned_ = true;
  }
  // A version was closed, or there was nothing in it.
  void closed() { *this = Settle(quiet_, max_wait_); }

 private:
  base::Duration quiet_, max_wait_;
  std::optional<base::MonoTime> first_, last_;
  bool warned_ = false;
};

}  // namespace mirrorbus::tree
