#include "bus/net/queue_limit.hpp"

#include <algorithm>

namespace mirrorbus::net {
namespace {
constexpr double kAlike = 1.25;
constexpr std::size_t kMessageOverhead = 96;  // libzmq's own, for each that is queued
}  // namespace

std::optional<int> QueueLimit::passed(std::size_t size) {
  sum_ += size + kMessageOverhead;
  if (++seen_ < kLookEvery) return std::nullopt;
  const double now = static_cast<double>(sum_) / static_cast<double>(seen_);
  // Larger ones count at once, smaller ones when they stay: large ones are what fills memory.
  average_ = now > average_ ? now : (average_ + now) / 2;
  seen_ = sum_ = 0;
  const double fit = static_cast<double>(bytes_) / average_;
  const int wanted = static_cast<int>(std::clamp<double>(fit, kFewest, kMost));
  if (wanted < messages_ * kAlike && wanted > messages_ / kAlike) return std::nullopt;
  return messages_ = wanted;
}

}  // namespace mirrorbus::net
