#include "services/mirror/pull_desk.hpp"

#include <algorithm>
#include <tuple>

namespace mirrorbus::mirror {
namespace {

using Pull = proto::HaveAnswer::Pull;
using namespace std::chrono_literals;

constexpr std::size_t kNamed = 4;  // sources in one answer
constexpr base::Duration kPulling = 2s, kTelling = 2s, kAtLeast = 100ms, kMostLater = 10s;

}  // namespace

void PullDesk::forget_old(base::MonoTime now) {
  std::erase_if(peers_, [&](const auto& each) {
    if (now - each.second.heard <= kForget) return false;
    --each.second.host->peers;
    return true;
  });
  std::erase_if(hosts_, [](const auto& each) { return each.second.peers == 0; });
}

PullDesk::Peer* PullDesk::peer(const Asker& who, const proto::Bytes& key, base::MonoTime now) {
  if (const auto it = peers_.find(key); it != peers_.end()) return &it->second;
  const auto full = [&] {
    const auto host = hosts_.find(who.from);
    return peers_.size() >= kMostPeers ||
           (host != hosts_.end() && host->second.peers >= kMostAtOne);
  };
  if (full()) forget_old(now);
  if (full()) return nullptr;
  Host& host = hosts_[who.from];
  ++host.peers;
  Peer& peer = peers_[key];
  peer.host = &host;
  return &peer;
}

// Who pulls from whom, but for the slow; returns who pulls here.
PullDesk::Pulling PullDesk::count_guests(base::MonoTime now) {
  Pulling here;
  for (auto& [name, host] : hosts_) host.here = host.away = host.guests = 0;
  for (auto& [key, peer] : peers_) peer.guests = 0;
  for (const auto& [key, peer] : peers_) {
    if (peer.until <= now || now - peer.since >= kSlow) continue;
    ++(peer.at.empty() ? peer.host->here : peer.host->away);
    if (peer.at.empty()) {
      if (now - peer.host->since >= kSlow) continue;
      ++here.all;
      here.to_serve += !peer.content.empty();
    } else if (const auto at = peers_.find(peer.at); at != peers_.end()) {
      ++at->second.guests;
      ++at->second.host->guests;
    }
  }
  return here;
}

// Those that can take a guest first, of them the least busy, then who has waited longest for one;
// of each place one, before a second of any.
PullDesk::Holders PullDesk::holders(const proto::Bytes& but, std::uint64_t version,
                                    base::MonoTime now) const {
  using One = const Peers::value_type*;
  const auto rank = [this](One each) {
    const Peer& peer = each->second;
    return std::tuple(peer.guests >= limits_.elsewhere, peer.host->guests, peer.guests,
                      peer.given);
  };
  std::vector<One> all;
  std::unordered_map<const Host*, One> firsts;
  for (const auto& each : peers_) {
    const Peer& peer = each.second;
    if (peer.number < version || peer.content.empty() || each.first == but ||
        now - peer.heard > kForget)
      continue;
    all.push_back(&each);
    One& first = firsts[peer.host];
    if (!first || rank(&each) < rank(first)) first = &each;
  }
  Holders found;
  found.all = all.size();
  const auto take = [&](std::vector<One> from) {
    const std::size_t some = std::min(from.size(), kNamed - found.best.size());
    const auto end = from.begin() + static_cast<std::ptrdiff_t>(some);
    std::ranges::partial_sort(from, end, {}, rank);
    found.best.insert(found.best.end(), from.begin(), end);
  };
  std::vector<One> one_of_each;
  for (const auto& [host, first] : firsts) one_of_each.push_back(first);
  take(one_of_each);
  std::erase_if(all, [&](One each) { return firsts.at(each->second.host) == each; });
  take(std::move(all));
  return found;
}

PullDesk::Verdict PullDesk::said(const Asker& who, std::uint64_t number, std::uint64_t want,
                                 const std::string& content, std::uint64_t held,
                                 base::MonoTime now) {
  // A run has one size, so no two pairs make one key.
  const proto::Bytes key = who.from + who.run;
  Peer* asker = peer(who, key, now);
  if (!asker) {
    if (want <= number) return {Pull::None, {}, kForget};
    // For others there is room: he has had his.
    return peers_.size() < kMostPeers ? Verdict{Pull::Later, {}, kMostLater}
                                      : Verdict{Pull::Here, {}, kForget};
  }
  asker->number = number;
  asker->content = content;
  asker->heard = now;
  if (asker->pulls != 0 && number >= asker->pulls && asker->pulls == asker->host->pulls)
    asker->host->pulls = 0;
  if (want > number) return give(*asker, key, want, held, now);
  asker->until = {};
  return {Pull::None, {}, kTelling};
}

PullDesk::Verdict PullDesk::let_in(Peer& asker, std::uint64_t want, base::MonoTime now) {
  Host& host = *asker.host;
  ++begun_;
  ++host.begun;
  if (host.pulls != want) {
    host.pulls = want;
    host.since = now;
  }
  asker.at.clear();
  asker.until = now + kLease;
  asker.since = now;
  return {Pull::Here, {}, kPulling};
}

PullDesk::Verdict PullDesk::give(Peer& asker, const proto::Bytes& key, std::uint64_t want,
                                 std::uint64_t held, base::MonoTime now) {
  // What nobody has must not put off what there is.
  if (want > version_ && want <= held) {
    version_ = want;
    begun_ = 0;
  }
  Host& host = *asker.host;
  if (host.begun_of != version_) {
    host.begun_of = version_;
    host.begun = 0;
  }
  if (asker.until > now && asker.pulls == want) {  // it is at it
    asker.until = now + kLease;
    if (asker.at.empty()) return {Pull::Here, {}, kPulling};
    const auto at = peers_.find(asker.at);
    if (at != peers_.end() && !at->second.content.empty())
      return {Pull::Others, {at->second.content}, kPulling};
    // Where it was sent nothing is handed out any more.
  }
  asker.until = {};
  asker.pulls = want;
  const Pulling here = count_guests(now);
  const Holders others = holders(key, want, now);
  // Of the first few half at most from one place.
  const bool first = begun_ < limits_.first && 2 * host.begun < limits_.first;
  // After them only if nobody has it for others, and nobody is about to: of those who never will
  // have it for others as many at a time as of the first.
  const bool room = here.all < limits_.here &&
                    (first || (others.best.empty() && here.to_serve == 0));
  if (held >= want && room && host.here == 0) return let_in(asker, want, now);
  const auto has_room = [&](const Peers::value_type* each) {
    return each->second.guests < limits_.elsewhere;
  };
  // And of the places at others.
  const std::size_t share = std::max(limits_.elsewhere, others.all * limits_.elsewhere / 2);
  if (!others.best.empty() && has_room(others.best.front()) && host.away < share) {
    Verdict verdict{Pull::Others, {}, kPulling};
    for (const auto* each : others.best) verdict.sources.push_back(each->second.content);
    peers_.at(others.best.front()->first).given = ++turn_;
    asker.at = others.best.front()->first;
    asker.until = now + kLease;
    asker.since = now;
    return verdict;
  }
  // So that thousands who wait do not ask thousands of times a second.
  const auto crowd = std::chrono::milliseconds(2 * peers_.size());
  return {Pull::Later, {}, std::clamp<base::Duration>(crowd, kAtLeast, kMostLater)};
}

}  // namespace mirrorbus::mirror
