// How many versions of a tree are kept: for deltas, comparisons and rollbacks.
#pragma once

#include "bus/base/clock.hpp"
#include "services/tree/index.hpp"

namespace mirrorbus::tree {

// A version goes when any of these says so. The newest one stays.
struct Retention {
  std::uint64_t versions = 100;
  base::Duration time = std::chrono::hours(24 * 30);
  std::uint64_t bytes = 0;  // of packs, together; 0: no limit
};

// The lowest number that stays; 0 if there is no version. What is not announced yet stays, and what
// comes after it.
std::uint64_t oldest_retained(const Index& index, const Retention& retention, base::WallTime now);

}  // namespace mirrorbus::tree
