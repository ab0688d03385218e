// MirrorRole: the versions it hears of, which of them it takes, and which it asks for.
#include "bus/peer/refused.hpp"
#include "proto/value.hpp"
#include "services/mirror/mirror_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

namespace {

constexpr base::Duration kAskAgain = 2s;
// Versions between the committed one and the newest whose packs are worth collecting into a chain.
constexpr std::uint64_t kMaxChain = 64;
constexpr base::Duration kChainWait = 500ms;

}  // namespace

void MirrorRole::refused(proto::Reject why, const std::string& text) {
  last_error_ = fmt::format("{}: {}", to_string(why), text);
  log_.warning("{}", last_error_);
  metrics_.refused.add();
  peer::count_refused(context_.registry, why);
}

std::string MirrorRole::foreign(const proto::Hash& stream, const proto::StreamName& name,
                                const proto::TreeUpdate& update) const {
  if (origin_ && *origin_ != stream)
    return fmt::format("{} is not the publisher this mirror has pinned", name.publisher);
  if (committed_record_ && committed_record_->tree != update.record.tree)
    return "it is of another tree of the same name";
  return "";
}

// Why this version cannot come of the one committed here, whose tree it is of.
std::optional<std::string> MirrorRole::contradiction(const proto::VersionRecord& record) const {
  if (!committed_record_) return std::nullopt;
  const proto::VersionRecord& has = *committed_record_;
  if (record.number == has.number && !(record == has))
    return fmt::format("another version {} than the one committed here", record.number);
  if (record.number == has.number + 1 && record.parent != proto::version_hash(has))
    return fmt::format("version {} does not follow the version {} committed here", record.number,
                       has.number);
  // What came before the committed one was closed before it.
  if (record.number < has.number && record.time_ns > has.time_ns)
    return fmt::format("version {} is newer than version {}, which is committed here",
                       record.number, has.number);
  return std::nullopt;
}

// The tree stays as it is. What is offered last by the same publisher is what would be accepted.
void MirrorRole::offer(Offered other, const std::string& text) {
  const proto::Reject why = other.why;
  if (!offered_ || offered_->stream == other.stream) offered_ = std::move(other);
  refused(why, text);
}

void MirrorRole::take_offered() {
  Offered other = std::move(*offered_);
  offered_.reset();
  const proto::VersionRecord& record = other.version.update.record;
  log_.notice("version {} of another history is accepted", record.number);
  tree::Refusal seen;
  seen.why = other.why;
  seen.number = record.number;
  seen.tree_hash = record.tree_hash;
  seen.from = committed_number_;
  accepted_ = std::move(seen);
  refusal_.reset();
  origin_ = other.stream;
  forced_ = true;
  known_.clear();
  known_[record.number] = std::move(other.version);
  asked_through_ = record.number;
  state_ = TreeState::Current;
  not_before_ = {};
}

void MirrorRole::on_update(const proto::Hash& stream, const proto::StreamName& name,
                           proto::ByteView body, proto::ByteView frame) {
  auto update = proto::decode_update(body);
  if (!update)
    return refused(update.error(), fmt::format("an update of {} cannot be read", name.publisher));
  const std::uint64_t number = update->record.number;
  if (!settings_.origin.empty() && name.publisher != settings_.origin)
    return refused(proto::Reject::ForeignTree,
                   fmt::format("version {} refused: it comes from {}, the configured origin is {}",
                               number, name.publisher, settings_.origin));
  // Until it is known whom this mirror follows nothing is taken; then everybody is asked.
  if (!engine_) {
    publishers_[stream] = name;
    return;
  }
  tree::TargetVersion version{std::move(*update), proto::Bytes(body), proto::Bytes(frame)};
  const proto::VersionRecord record = version.update.record;
  if (const std::string why = foreign(stream, name, version.update); !why.empty())
    return offer({stream, std::move(version), proto::Reject::ForeignTree},
                 fmt::format("version {} refused: {}; `accept` takes it after all", number, why));
  publishers_[stream] = name;
  if (const auto why = contradiction(record)) {
    // Under way already, by an operator's word.
    if (forced_ && !known_.empty() && known_.rbegin()->second.update.record == record) return;
    state_ = TreeState::Fork;
    return offer({stream, std::move(version), proto::Reject::Fork},
                 fmt::format("{} says {}; nothing is applied until that is looked at, or accepted",
                             name.publisher, *why));
  }
  if (number == committed_number_ && !frame.empty()) seals_.keep(number, frame);
  if (state_ == TreeState::Fork && offered_ && offered_->stream == stream) {
    if (record.number > offered_->version.update.record.number)
      offered_->version = std::move(version);
    return;
  }
  // When what was accepted is in place, the newest is asked for.
  if (number <= committed_number_ || forced_) return;
  // The first one heard decides; it is written down with the first commit.
  if (!origin_) origin_ = stream;
  known_[number] = std::move(version);
  while (known_.size() > kMaxChain) known_.erase(known_.begin());
  consider();
}

void MirrorRole::on_credential(const proto::Hash& stream, const proto::Credential& credential) {
  publishers_[stream] = credential.stream;
  talk_->wake();
  if (!settings_.origin.empty() && credential.stream.publisher != settings_.origin) return;
  if (state_ != TreeState::Starting || !busy_) ask_newest(stream);
}

// The newest version a publisher has, by its sealed event: a mirror that starts does not have to
// wait for the next one.
void MirrorRole::ask_newest(const proto::Hash& stream) {
  if (origin_ && *origin_ != stream) return;
  ask_version(stream, 0, 0);
}

void MirrorRole::ask_version(const proto::Hash& stream, std::uint64_t number,
                             std::uint32_t attempt) {
  proto::Map args{{"name", settings_.name}};
  if (number > 0) args.emplace_back("number", number);
  context_.subscriber->ask(
      stream, attempt, "tree", args,
      [this, stream, number, attempt](proto::Decoded<proto::Answer> answer, const std::string&) {
        if (!stopping_) version_answered(stream, number, attempt, answer);
      });
}

void MirrorRole::version_answered(const proto::Hash& stream, std::uint64_t number,
                                  std::uint32_t attempt,
                                  const proto::Decoded<proto::Answer>& answer) {
  bool again = !answer;
  if (answer && !answer->refused && !answer->parts.empty()) {
    if (answer->parts.size() == 2) offer_sealer({}, *answer);
    const auto event = context_.subscriber->inspect(answer->parts.front(), stream);
    if (event && event->topic == context_.update_topic(settings_.name))
      on_update(stream, event->name, event->body, answer->parts.front());
    else
      again = !event && event.error() == proto::Reject::UnknownCredential;
    if (!event && !again) peer::count_refused(context_.registry, event.error());
  } else if (answer && answer->refused) {
    // Not yet; or this one does not have the tree, and the next one may.
    again = *answer->refused == proto::Reject::Busy ||
            *answer->refused == proto::Reject::Unavailable ||
            attempt + 1 < context_.subscriber->sources(stream);
  }
  // Somebody else's, or had by another way meanwhile.
  if ((origin_ && *origin_ != stream) || (number > 0 && number <= committed_number_ && !forced_))
    again = false;
  if (!again) {
    asking_.erase({stream, number});
    return;
  }
  auto& timer = asking_[{stream, number}];
  if (!timer) timer = std::make_unique<base::Timer>(context_.loop);
  timer->start(kAskAgain,
               [this, stream, number, attempt] { ask_version(stream, number, attempt + 1); });
}

// Asks once for versions in between that were not heard: with their packs, a chain can be folded.
bool MirrorRole::chain_complete() {
  const std::uint64_t newest = known_.rbegin()->first;
  if (forced_ || committed_number_ == 0 || newest - committed_number_ > kMaxChain) return true;
  if (!origin_ || context_.subscriber->sources(*origin_) == 0) return true;
  const base::MonoTime now = context_.loop.now().mono;
  const bool asked = asked_through_ >= newest;
  const auto others = standing().hears_origin ? std::vector<std::string>() : talk_->answering();
  bool complete = true;
  for (std::uint64_t number = committed_number_ + 1; number < newest; ++number) {
    if (known_.contains(number)) continue;
    complete = false;
    if (asked) break;
    if (others.empty())
      ask_version(*origin_, number, 0);
    else
      ask_handed_on(others.front(), number);
  }
  if (complete || (asked && now >= chain_due_)) return true;
  if (asked) return false;  // some have answered; the timer waits for the others
  asked_through_ = newest;
  // Whoever does not answer is not waited for.
  chain_due_ = now + kChainWait;
  retry_.start(kChainWait, [this] { consider(); });
  return false;
}

// ---- how far behind ----

std::uint64_t MirrorRole::head() const {
  if (offered_ && state_ == TreeState::Fork) return offered_->version.update.record.number;
  return known_.empty() ? committed_number_ : std::max(committed_number_, known_.rbegin()->first);
}

double MirrorRole::lag_seconds() const {
  std::uint64_t since_ns = pinned_ ? pinned_->next_ns : 0;
  const auto next = known_.upper_bound(committed_number_);
  if (since_ns == 0 && next != known_.end()) since_ns = next->second.update.record.time_ns;
  if (since_ns == 0) return 0;
  const auto age = context_.loop.now().wall - base::from_ns(since_ns);
  return std::max(0.0, std::chrono::duration<double>(age).count());
}

void MirrorRole::measure() {
  metrics_.head_version.set(static_cast<double>(head()));
  metrics_.lag.set(lag_seconds());
  if (!stopping_) every_second_.start(1s, [this] { measure(); });
}

}  // namespace mirrorbus::mirror
