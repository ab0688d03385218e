#include "bus/peer/gap_tracker.hpp"

#include <algorithm>

namespace mirrorbus::peer {

void GapTracker::hold(std::uint64_t seq, HeldEvent event) {
  want(event.previous);
  if (held_.size() >= kMaxHeld || held_bytes_ + event.cost() > kMaxHeldBytes) {
    want(seq);
    return;
  }
  held_bytes_ += event.cost();
  held_.emplace(seq, std::move(event));
}

std::optional<std::pair<std::uint64_t, HeldEvent>> GapTracker::take_ready(
    std::uint64_t epoch) {
  while (!held_.empty()) {
    const auto first = held_.begin();
    if (first->first > position_ &&
        (!in_order(first->second.previous) || first->second.epoch > epoch))
      return std::nullopt;
    held_bytes_ -= first->second.cost();
    auto node = held_.extract(first);
    if (node.key() > position_) return std::pair(node.key(), std::move(node.mapped()));
  }
  return std::nullopt;
}

void GapTracker::end_epochs_before(std::uint64_t epoch, std::uint64_t last) {
  for (auto it = held_.upper_bound(last); it != held_.end();) {
    if (it->second.epoch >= epoch) {
      ++it;
      continue;
    }
    held_bytes_ -= it->second.cost();
    it = held_.erase(it);
  }
  // The numbers beyond it are given out anew: only what the new epoch says of them counts.
  wanted_ = std::min(wanted_, last);
  for (const auto& [seq, event] : held_) want(event.previous);
}

void GapTracker::rewind(std::uint64_t position) {
  position_ = proven_ = position;
  wanted_ = 0;
  held_.clear();
  held_bytes_ = 0;
}

}  // namespace mirrorbus::peer
