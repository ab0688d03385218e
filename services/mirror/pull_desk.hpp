// Who may pull a version here and who is sent to others who have it: the first few pull here, then
// everybody is sent on, so that N mirrors have a version after about log2 N times as long as one
// pull takes. No I/O, no clock. Loop thread only.
//
// Who asks is known by the number that its daemon drew when it started. A place, here or at
// another's, is kept for it while it asks again within kLease, or until it has the version.
#pragma once

#include "bus/base/clock.hpp"
#include "proto/tree_have.hpp"

#include <string>
#include <unordered_map>
#include <vector>

namespace mirrorbus::mirror {

class PullDesk {
 public:
  static constexpr base::Duration kLease = std::chrono::seconds(6);
  // Who takes longer goes on, and is not waited for: one on a slow line holds up nobody else.
  static constexpr base::Duration kSlow = std::chrono::seconds(20);
  // To who has not said for so long that it has anything nobody is sent.
  static constexpr base::Duration kForget = std::chrono::seconds(120);
  static constexpr std::size_t kMostPeers = 4096;

  struct Limits {
    std::size_t here = 2;       // pulls here at a time
    std::size_t first = 4;      // pulls of one version here at all, unless nobody else has it
    std::size_t elsewhere = 2;  // pulls at each of the others at a time
  };
  explicit PullDesk(Limits limits) : limits_(limits) {}
  PullDesk() : PullDesk(Limits{}) {}

  struct Verdict {
    proto::HaveAnswer::Pull pull = proto::HaveAnswer::Pull::None;
    std::vector<std::string> sources{};  // where its place is, then others that have the version
    base::Duration again{};              // when to ask again
  };
  // What `run` says it has and wants. `content`: where others can pull from it; empty: nowhere.
  // `held`: the newest version here.
  Verdict said(const proto::Bytes& run, std::uint64_t number, std::uint64_t want,
               const std::string& content, std::uint64_t held, base::MonoTime now);

  std::size_t peers() const { return peers_.size(); }

 private:
  struct Peer {
    std::uint64_t number = 0;
    std::string content{};
    base::MonoTime heard{};
    // While `until` lies ahead it pulls: from another run, or, if `at` is empty, here.
    base::MonoTime until{}, since{};
    std::uint64_t pulls = 0;  // which version
    proto::Bytes at{};
    std::size_t guests = 0;   // who pull from it, counted anew for each question
    std::uint64_t given = 0;  // when somebody was last sent to it
  };
  using Peers = std::unordered_map<proto::Bytes, Peer>;

  Peer* peer(const proto::Bytes& run, base::MonoTime now);
  std::size_t count_guests(base::MonoTime now);
  std::vector<const Peers::value_type*> holders(const proto::Bytes& but, std::uint64_t version,
                                                base::MonoTime now) const;
  Verdict give(Peer& asker, const proto::Bytes& run, std::uint64_t want, std::uint64_t held,
               base::MonoTime now);

  const Limits limits_;
  Peers peers_;
  std::uint64_t version_ = 0;  // the newest that was wanted, and …
  std::size_t begun_ = 0;      // … how many pulls of it have begun here
  std::uint64_t turn_ = 0;
};

}  // namespace mirrorbus::mirror
