// Who may pull a version here and who is sent to others who have it: the first few pull here, then
// everybody is sent on, so that N mirrors have a version after about log2 N times as long as one
// pull takes. No I/O, no clock. Loop thread only.
//
// Who asks is known by where he asks from and by the number that his daemon drew and keeps: a
// number alone is nobody's, for all who are asked hear it. A place, here or at another's, is kept
// for him while he asks again within kLease, a restart or not, or until he has the version. Numbers
// cost nothing, so all that one place can have is bounded: half of what there is, and one pull here
// at a time.
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
  static constexpr std::size_t kMostAtOne = 64;  // of them from one place

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
  struct Asker {
    std::string from;  // net::neighbourhood() of the address that the connection has
    proto::Bytes run;
  };
  // What the asker says he has and wants. `content`: where others can pull from him; empty:
  // nowhere. `held`: the newest version here.
  Verdict said(const Asker& who, std::uint64_t number, std::uint64_t want,
               const std::string& content, std::uint64_t held, base::MonoTime now);

  std::size_t peers() const { return peers_.size(); }

 private:
  // All who ask from one place.
  struct Host {
    std::size_t peers = 0;
    std::uint64_t begun_of = 0;  // of this version …
    std::size_t begun = 0;       // … so many pulls of theirs have begun here
    // Since when they have been pulling this version here, and none has it yet: whoever of them
    // goes on with it is as slow as the first.
    std::uint64_t pulls = 0;
    base::MonoTime since{};
    // Counted anew for each question, but for the slow: who pull here, at others, and from them.
    std::size_t here = 0, away = 0, guests = 0;
  };
  struct Peer {
    Host* host = nullptr;
    std::uint64_t number = 0;
    std::string content{};
    base::MonoTime heard{};
    // While `until` lies ahead it pulls: from another peer, or, if `at` is empty, here.
    base::MonoTime until{}, since{};
    std::uint64_t pulls = 0;  // which version
    proto::Bytes at{};
    std::size_t guests = 0;   // who pull from it, counted anew for each question
    std::uint64_t given = 0;  // when somebody was last sent to it
  };
  using Peers = std::unordered_map<proto::Bytes, Peer>;  // by place and run

  Peer* peer(const Asker& who, const proto::Bytes& key, base::MonoTime now);
  void forget_old(base::MonoTime now);
  struct Pulling {
    std::size_t all = 0, to_serve = 0;  // to_serve: others can pull from them then
  };
  Pulling count_guests(base::MonoTime now);
  struct Holders {
    std::vector<const Peers::value_type*> best;  // a few to name
    std::size_t all = 0;
  };
  Holders holders(const proto::Bytes& but, std::uint64_t version, base::MonoTime now) const;
  Verdict give(Peer& asker, const proto::Bytes& key, std::uint64_t want, std::uint64_t held,
               base::MonoTime now);
  Verdict let_in(Peer& asker, std::uint64_t want, base::MonoTime now);

  const Limits limits_;
  std::unordered_map<std::string, Host> hosts_;
  Peers peers_;
  std::uint64_t version_ = 0;  // the newest that was wanted, and …
  std::size_t begun_ = 0;      // … how many pulls of it have begun here
  std::uint64_t turn_ = 0;
};

}  // namespace mirrorbus::mirror
