#include "services/mirror/source_talk.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostPeers = 8;  // that one mirror talks to
constexpr base::Duration kTick = 250ms;
// Of a mirror that has to ask what is new; of one that is pulling, and whose place is kept for it
// while it says so.
constexpr base::Duration kFollowing = 2s, kPulling = 2s;
constexpr base::Duration kTelling = 30s;   // of one that hears the origin
constexpr base::Duration kUnanswered = 15s;

}  // namespace

SourceTalk::SourceTalk(base::Loop& loop, peer::Subscriber& subscriber, std::string tree,
                       proto::Bytes run, std::string content, Handlers handlers)
    : loop_(loop),
      subscriber_(subscriber),
      tree_(std::move(tree)),
      run_(std::move(run)),
      content_(std::move(content)),
      handlers_(std::move(handlers)),
      tick_(loop) {
  tick_.start(kTick, [this] { tick(); });
}

void SourceTalk::stop() {
  stopped_ = true;
  tick_.cancel();
}

void SourceTalk::wake() {
  for (auto& [endpoint, peer] : peers_)
    if (peer.asking)
      peer.soon = true;
    else if (peer.said)
      peer.due = {};
  // When whoever calls is done; somebody may be waiting for our place.
  if (!stopped_) tick_.start(0ms, [this] { tick(); });
}

void SourceTalk::look_around() {
  order_ = subscriber_.sources_of(handlers_.standing().origin.value_or(proto::Hash{}));
  if (order_.size() > kMostPeers) order_.resize(kMostPeers);
  std::erase_if(peers_, [&](const auto& each) {
    return !each.second.asking && std::ranges::find(order_, each.first) == order_.end();
  });
}

void SourceTalk::tick() {
  tick_.start(kTick, [this] { tick(); });
  look_around();
  const base::MonoTime now = loop_.now().mono;
  for (const std::string& endpoint : order_)
    if (Peer& peer = peers_[endpoint]; !peer.asking && peer.due <= now) tell(endpoint, nullptr);
}

void SourceTalk::tell(const std::string& endpoint, OnPlace on_place) {
  const Standing now = handlers_.standing();
  peers_[endpoint].asking = true;
  const std::uint64_t want = endpoint == want_at_ ? want_ : 0;
  const proto::HaveRequest request{tree_, run_, now.committed, want,
                                   now.complete ? content_ : std::string()};
  subscriber_.ask_at(endpoint, "have", proto::to_args(request),
                     [this, endpoint, on_place = std::move(on_place)](
                         proto::Decoded<proto::Answer> answer, const std::string& from) mutable {
                       if (!stopped_)
                         answered(endpoint, std::move(answer), from, std::move(on_place));
                     });
}

base::Duration SourceTalk::pace(const Peer& peer) const {
  if (!peer.said) return kUnanswered;
  const base::Duration asked_for = std::chrono::milliseconds(peer.said->again_ms);
  if (want_ > 0) return kPulling;
  return handlers_.standing().hears_origin ? std::max(asked_for, kTelling)
                                           : std::max(asked_for, kFollowing);
}

void SourceTalk::answered(const std::string& endpoint, proto::Decoded<proto::Answer> answer,
                          const std::string& from, OnPlace on_place) {
  Peer& peer = peers_[endpoint];
  peer.asking = false;
  peer.tried = true;
  peer.said.reset();
  if (answer && !answer->refused)
    if (auto said = proto::have_answer(answer->fields)) peer.said = std::move(*said);
  const base::MonoTime now = loop_.now().mono;
  if (peer.said) peer.heard = now;
  peer.from = from;
  peer.due = std::exchange(peer.soon, false) && peer.said ? now : now + pace(peer);
  const std::optional<proto::HaveAnswer> said = peer.said;
  if (on_place) on_place(said ? std::optional(Heard{*said, from}) : std::nullopt);
  if (said && said->number > handlers_.standing().known) handlers_.on_newer(endpoint, said->number);
}

std::vector<std::string> SourceTalk::answering() const {
  std::vector<std::string> who;
  for (const std::string& endpoint : order_)
    if (const auto it = peers_.find(endpoint); it != peers_.end() && it->second.said)
      who.push_back(endpoint);
  return who;
}

std::vector<SourceTalk::Heard> SourceTalk::having(std::uint64_t version) const {
  std::vector<Heard> all;
  for (const std::string& endpoint : answering()) {
    const Peer& peer = peers_.at(endpoint);
    if (peer.said->number >= version && !peer.said->content.empty())
      all.push_back({*peer.said, peer.from});
  }
  return all;
}

bool SourceTalk::heard(base::Duration within) const {
  const base::MonoTime since = loop_.now().mono - within;
  return std::ranges::any_of(
      peers_, [&](const auto& each) { return each.second.said && each.second.heard > since; });
}

std::vector<std::string> SourceTalk::askable() const {
  auto who = answering();
  std::ranges::copy_if(order_, std::back_inserter(who), [this](const std::string& each) {
    const auto it = peers_.find(each);
    return it == peers_.end() || !it->second.tried;
  });
  return who;
}

void SourceTalk::ask_to_pull(std::uint64_t version, OnPlace on_place) {
  using Pull = proto::HaveAnswer::Pull;
  want_ = version;
  look_around();
  want_at_ = turn_.next(askable(), loop_.now().mono);
  if (want_at_.empty()) return on_place(std::nullopt);
  tell(want_at_, [this, version, who = want_at_, on_place = std::move(on_place)](
                     std::optional<Heard> heard) mutable {
    if (want_ != version || want_at_ != who) return;  // that try is over
    told_ = heard ? heard->said.pull : Pull::None;
    if (told_ == Pull::Later) {
      using Then = AskingOrder::Then;
      const bool has_it = heard->said.number >= version;
      const base::MonoTime now = loop_.now().mono;
      const Then then = has_it ? turn_.puts_off(who, askable(), now)
                               : turn_.waits(who, askable(), now);
      if (then == Then::AskNext) return ask_to_pull(version, std::move(on_place));
      // Not for who has nothing, where something is to be had that was to be spared only.
      if (then == Then::NobodyElse && !has_it && failing_) heard.reset();
    }
    on_place(std::move(heard));
  });
}

std::string SourceTalk::came_to_nothing() {
  failing_ = true;
  if (want_at_.empty()) return {};
  if (told_ == proto::HaveAnswer::Pull::Others)
    turn_.misled(want_at_, loop_.now().mono);
  else
    turn_.failed(want_at_);
  return std::exchange(want_at_, {});
}

void SourceTalk::pulled() {
  want_ = 0;
  want_at_.clear();
  turn_.new_try();
  failing_ = false;
  wake();
}

}  // namespace mirrorbus::mirror
