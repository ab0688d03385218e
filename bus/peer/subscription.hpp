// One subscription: what it wants, where it begins, and what became of it. Shared by the parts of a
// SubscriberCore.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/peer/subscriber_actions.hpp"

#include <array>
#include <variant>
#include <vector>

namespace mirrorbus::peer {

// Where to begin with a stream that has no cursor.
struct StartNow {};
struct StartOldest {};  // whatever its journal still holds
struct StartTime {
  std::uint64_t time_ns;
};
struct StartSeq {
  std::string publisher;  // others start now
  std::uint64_t seq;
  std::optional<std::uint64_t> epoch;  // empty: the newest epoch that has it
};
using Start = std::variant<StartNow, StartOldest, StartTime, StartSeq>;

struct SubscriberOptions {
  std::vector<proto::TopicPattern> patterns;
  Start start = StartNow{};
  base::Duration gap_after = std::chrono::seconds(60);
  bool never_give_up = false;  // archives
  std::size_t replay_bytes = 1 << 20;
};

// Every seq a subscription passes ends in exactly one of the first four, or in a gap.
struct SubscriberCounts {
  std::uint64_t delivered = 0;
  std::uint64_t filtered = 0;  // under the prefix, matching no pattern
  std::uint64_t denied = 0;
  std::uint64_t undecodable = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t gaps = 0;
  std::uint64_t gap_events = 0;  // those whose number is known
  std::uint64_t replays = 0;
  std::uint64_t replayed = 0;  // events taken from replay answers
  std::uint64_t heads = 0;
  std::uint64_t checks = 0;  // credentials handed to check_credential()
  std::uint64_t cuts = 0;    // streams cut at an endpoint for a while
  std::array<std::uint64_t, 128> refused{};  // by proto::Reject
};

class Subscription {
 public:
  Subscription(SubscriberOptions wanted, SubscriberActions& driver)
      : options(std::move(wanted)),
        prefix(proto::common_prefix(options.patterns)),
        prefix_depth(proto::segment_count(prefix)),
        actions(driver) {}

  // The id of a question that is about to be asked.
  std::uint64_t next_question() { return ++questions_; }
  proto::Reject count(proto::Reject why) {
    ++counts.refused[static_cast<std::size_t>(why)];
    return why;
  }

  const SubscriberOptions options;
  const std::string prefix;
  const std::size_t prefix_depth;
  SubscriberActions& actions;
  SubscriberCounts counts;

 private:
  std::uint64_t questions_ = 0;
};

}  // namespace mirrorbus::peer
