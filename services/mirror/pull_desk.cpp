#include "services/mirror/pull_desk.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

using Pull = proto::HaveAnswer::Pull;
using namespace std::chrono_literals;

constexpr std::size_t kNamed = 4;  // sources in one answer
constexpr base::Duration kPulling = 2s, kTelling = 2s, kAtLeast = 1s;

}  // namespace

PullDesk::Peer* PullDesk::peer(const proto::Bytes& run, base::MonoTime now) {
  if (const auto it = peers_.find(run); it != peers_.end()) return &it->second;
  if (peers_.size() >= kMostPeers)
    std::erase_if(peers_, [&](const auto& each) { return now - each.second.heard > kForget; });
  return peers_.size() >= kMostPeers ? nullptr : &peers_[run];
}

// Who pulls from whom, but for the slow; returns how many pull here.
std::size_t PullDesk::count_guests(base::MonoTime now) {
  std::size_t here = 0;
  for (auto& [run, peer] : peers_) peer.guests = 0;
  for (const auto& [run, peer] : peers_) {
    if (peer.until <= now || now - peer.since >= kSlow) continue;
    if (peer.at.empty())
      ++here;
    else if (const auto at = peers_.find(peer.at); at != peers_.end())
      ++at->second.guests;
  }
  return here;
}

// The least busy first, then who has waited longest for a guest.
std::vector<const PullDesk::Peers::value_type*> PullDesk::holders(const proto::Bytes& but,
                                                                  std::uint64_t version,
                                                                  base::MonoTime now) const {
  std::vector<const Peers::value_type*> all;
  for (const auto& each : peers_)
    if (each.second.number >= version && !each.second.content.empty() && each.first != but &&
        now - each.second.heard <= kForget)
      all.push_back(&each);
  const auto best = all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), kNamed));
  std::ranges::partial_sort(all, best, {}, [](const auto* each) {
    return std::pair(each->second.guests, each->second.given);
  });
  all.erase(best, all.end());
  return all;
}

PullDesk::Verdict PullDesk::said(const proto::Bytes& run, std::uint64_t number,
                                 std::uint64_t want, const std::string& content,
                                 std::uint64_t held, base::MonoTime now) {
  Peer* asker = peer(run, now);
  if (!asker) return {want > number ? Pull::Here : Pull::None, {}, kForget};
  asker->number = number;
  asker->content = content;
  asker->heard = now;
  if (want > number) return give(*asker, run, want, held, now);
  asker->until = {};
  return {Pull::None, {}, kTelling};
}

PullDesk::Verdict PullDesk::give(Peer& asker, const proto::Bytes& run, std::uint64_t want,
                                 std::uint64_t held, base::MonoTime now) {
  // What nobody has must not put off what there is.
  if (want > version_ && want <= held) {
    version_ = want;
    begun_ = 0;
  }
  if (asker.until > now && asker.pulls == want) {  // it is at it
    asker.until = now + kLease;
    if (asker.at.empty()) return {Pull::Here, {}, kPulling};
    const auto at = peers_.find(asker.at);
    return {Pull::Others, {at == peers_.end() ? std::string() : at->second.content}, kPulling};
  }
  asker.until = {};
  asker.pulls = want;
  const std::size_t here = count_guests(now);
  const auto others = holders(run, want, now);
  // After the first few only if nobody has it, and nobody is about to.
  const bool room = begun_ < limits_.first ? here < limits_.here : here == 0 && others.empty();
  if (held >= want && room) {
    ++begun_;
    asker.at.clear();
    asker.until = now + kLease;
    asker.since = now;
    return {Pull::Here, {}, kPulling};
  }
  if (!others.empty() && others.front()->second.guests < limits_.elsewhere) {
    Verdict verdict{Pull::Others, {}, kPulling};
    for (const auto* each : others) verdict.sources.push_back(each->second.content);
    peers_.at(others.front()->first).given = ++turn_;
    asker.at = others.front()->first;
    asker.until = now + kLease;
    asker.since = now;
    return verdict;
  }
  // So that thousands who wait do not ask thousands of times a second.
  const auto crowd = std::chrono::milliseconds(2 * peers_.size());
  return {Pull::Later, {}, std::clamp<base::Duration>(crowd, kAtLeast, 10s)};
}

}  // namespace mirrorbus::mirror
