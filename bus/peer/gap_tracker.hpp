// Where a subscription stands in one stream: what it has, what it holds back, what it is missing.
// Pure bookkeeping over (seq, previous), for one literal prefix. See proto/event.md.
#pragma once

#include "proto/bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace mirrorbus::peer {

// An event that arrived ahead of one before it.
struct HeldEvent {
  std::uint64_t epoch = 0;
  std::uint64_t previous = 0;
  bool exact = false;  // there is an event at `previous`
  std::uint64_t time_ns = 0;
  proto::Hash credential;
  std::string topic;
  proto::Bytes body;
  std::size_t cost() const { return topic.size() + body.size() + 160; }
};

class GapTracker {
 public:
  static constexpr std::size_t kMaxHeld = 65'536;
  static constexpr std::size_t kMaxHeldBytes = 16 << 20;

  explicit GapTracker(std::uint64_t position) : GapTracker(position, position) {}
  GapTracker(std::uint64_t position, std::uint64_t proven) : position_(position), proven_(proven) {}

  // Everything up to here has been consumed, or named lost, or is said by a source not to be there.
  std::uint64_t position() const { return position_; }
  // Up to here without having to believe a source.
  std::uint64_t proven() const { return proven_; }
  // Up to here something is known to exist that has not been consumed.
  std::uint64_t wanted() const { return wanted_; }
  bool behind() const { return wanted_ > position_; }

  bool seen(std::uint64_t seq) const { return seq <= position_ || held_.contains(seq); }
  bool in_order(std::uint64_t previous) const { return previous <= position_; }

  void advance(std::uint64_t position) {
    position_ = std::max(position_, position);
    proven_ = std::max(proven_, position);
  }
  // A source says that there is nothing of ours up to here.
  void believe(std::uint64_t position) {
    if (position > position_) position_ = position;
  }
  // There is an event of ours with this seq. True if a source has denied it: then we are back at
  // what is proven.
  bool learn_of(std::uint64_t seq) {
    if (seq <= proven_ || seq > position_) return false;
    position_ = proven_;
    want(seq);
    return true;
  }
  void want(std::uint64_t seq) {
    if (seq > wanted_) wanted_ = seq;
  }
  // Keeps an event for later, or only remembers that it is wanted if there is no room.
  void hold(std::uint64_t seq, HeldEvent event);
  // The next held event that is in order now, if it is of this epoch or an earlier one.
  std::optional<std::pair<std::uint64_t, HeldEvent>> take_ready(std::uint64_t epoch);

  // `epoch` goes on from `last`: what is held of earlier ones beyond that is not part of its history.
  void end_epochs_before(std::uint64_t epoch, std::uint64_t last);
  // Back to `position` (the publisher was restored from a copy, or lost its journal); what is held
  // belongs to numbers that are given out again.
  void rewind(std::uint64_t position);

  std::size_t held() const { return held_.size(); }
  // The seq of the first held event; 0 if there is none.
  std::uint64_t first_held() const { return held_.empty() ? 0 : held_.begin()->first; }
  // The seq of an event that the first held one says is there before it; 0 if it does not say.
  std::uint64_t before_held() const {
    return held_.empty() || !held_.begin()->second.exact ? 0 : held_.begin()->second.previous;
  }

 private:
  std::uint64_t position_;
  std::uint64_t proven_;  // not above position_
  std::uint64_t wanted_ = 0;
  std::map<std::uint64_t, HeldEvent> held_;
  std::size_t held_bytes_ = 0;
};

}  // namespace mirrorbus::peer
