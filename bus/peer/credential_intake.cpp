#include "bus/peer/credential_intake.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr std::size_t kMaxFetching = 16;
constexpr std::size_t kMaxFetched = 1024;
constexpr std::size_t kMaxEarlyHead = 16 << 10;
constexpr base::Duration kFetchPause = std::chrono::seconds(2);

}  // namespace

CredentialIntake::Refusal CredentialIntake::offer(proto::ByteView sealed,
                                                  CredentialBook::Came came, SourceId source,
                                                  base::Now now) {
  const auto known = book_.offer(sealed, came, source, budget_, now);
  if (!known) return known.error();
  if (*known) {
    fetching_.erase((*known)->id);
    ++subscription_.counts.checks;
    subscription_.actions.check_credential(**known);
  }
  return std::nullopt;
}

proto::Decoded<KnownCredential*> CredentialIntake::judged(
    const proto::Hash& credential, const proto::Decoded<CredentialVerdict>& verdict,
    base::Now now) {
  const auto asked = book_.share(credential);
  const auto known = book_.judge(credential, verdict);
  if (known) return known;
  const proto::Reject why = subscription_.count(known.error());
  return proto::refuse(asked ? disproved(why, asked->source, asked->stream, now) : why);
}

void CredentialIntake::renew(trust::Policy policy) {
  for (KnownCredential* known : book_.renew(std::move(policy)))
    subscription_.actions.check_credential(*known);
}

void CredentialIntake::fetch(const proto::Hash& id, const proto::Hash& stream, base::Now now) {
  if (fetching_.contains(id) || fetching_.size() >= kMaxFetching) return;
  // Not again and again for one that nobody has.
  if (const auto it = fetched_.find(id);
      it != fetched_.end() && now.mono - it->second < kFetchPause)
    return;
  if (fetched_.size() > kMaxFetched) fetched_.clear();
  fetched_[id] = now.mono;
  const std::uint64_t question = subscription_.next_question();
  fetching_[id] = question;
  subscription_.actions.ask({question, stream, 0, "credential", {{"credential", id}}});
}

void CredentialIntake::answered(std::uint64_t question,
                                const proto::Decoded<proto::Answer>& answer, SourceId source,
                                base::Now now) {
  const auto it = std::ranges::find(fetching_, question,
                                    &std::pair<const proto::Hash, std::uint64_t>::second);
  if (it == fetching_.end()) return;
  fetching_.erase(it);
  if (!answer || answer->refused) return;
  for (const proto::Bytes& sealed : answer->parts)
    if (const Refusal why = offer(sealed, CredentialBook::Came::Asked, source, now))
      subscription_.count(*why);
}

proto::Reject CredentialIntake::disproved(proto::Reject why, SourceId source,
                                          const proto::Hash& stream, base::Now now) {
  switch (why) {
    case proto::Reject::BadSignature:
    case proto::Reject::WrongSigner:
    case proto::Reject::UnknownSigner:
    case proto::Reject::BadPath:
    case proto::Reject::BadRoot:
      if (budget_.failed(source, stream, now.mono)) ++subscription_.counts.cuts;
      break;
    default:;  // says nothing against who passed it on
  }
  return why;
}

proto::Decoded<proto::Head> CredentialIntake::verified_head(const proto::ControlFrame& frame,
                                                            SourceId source, base::Now now) {
  const auto sealed = proto::sealed_head(frame);
  if (!sealed) return proto::refuse(sealed.error());
  auto head = proto::decode_head(sealed->bytes);
  if (!head) return head;
  if (head->stream != frame.stream) return proto::refuse(proto::Reject::WrongStream);
  KnownCredential* known = book_.find(head->credential);
  if (!known) {
    fetch(head->credential, {}, now);
    return proto::refuse(proto::Reject::UnknownCredential);
  }
  if (known->stream != head->stream) return proto::refuse(proto::Reject::WrongStream);
  if (known->credential.epoch != head->epoch) return proto::refuse(proto::Reject::BadField);
  if (cut(source, head->stream, now)) return proto::refuse(proto::Reject::SourceCut);
  if (known->state == KnownCredential::State::Checking && frame.payload.size() <= kMaxEarlyHead) {
    known->early_head = frame.payload;
    known->early_source = source;
  }
  const auto good = book_.check_seal(head->credential, head->time_ns, sealed->bytes, sealed->seal,
                                     true, now);
  if (!good) return proto::refuse(disproved(good.error(), source, head->stream, now));
  return head;
}

}  // namespace mirrorbus::peer
