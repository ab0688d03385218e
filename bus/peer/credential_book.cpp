#include "bus/peer/credential_book.hpp"

#include "bus/trust/session_key.hpp"

namespace mirrorbus::peer {
namespace {
constexpr std::size_t kMaxTopicsRemembered = 4096;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
}  // namespace

KnownCredential* CredentialBook::find(const proto::Hash& id) {
  const auto it = known_.find(id);
  return it == known_.end() ? nullptr : it->second.get();
}

void CredentialBook::make_room(const proto::Hash& stream, std::uint64_t newest_epoch) {
  auto& by_age = streams_[stream];
  while (by_age.size() >= kMaxPerStream) {
    // The oldest goes, unless the newcomer is itself the oldest; then the oldest but newest stays.
    auto victim = by_age.begin();
    if (victim->first.first > newest_epoch) victim = std::prev(by_age.end());
    if (const KnownCredential* known = find(victim->second);
        known && known->state == KnownCredential::State::Checking)
      --checking_;
    known_.erase(victim->second);
    by_age.erase(victim);
  }
}

proto::Decoded<KnownCredential*> CredentialBook::offer(proto::ByteView bytes, base::Now now) {
  auto sealed = proto::decode_sealed(bytes);
  if (!sealed) return proto::refuse(sealed.error());
  const proto::Hash id = proto::credential_id(sealed->document);
  if (KnownCredential* known = find(id)) {
    // A refusal that came with another signature says nothing of this one.
    if (known->state != KnownCredential::State::Refused || known->sealed == *sealed) return nullptr;
  }
  auto credential = proto::decode_credential(sealed->document);
  if (!credential) return proto::refuse(credential.error());
  if (!policy_.lists(credential->stream)) return proto::refuse(proto::Reject::PolicyDenied);
  if (base::from_ns(credential->issued_ns) > now.wall + kSkew)
    return proto::refuse(proto::Reject::CredentialFuture);
  if (checking_ >= kMaxChecking) return proto::refuse(proto::Reject::Busy);

  const proto::Hash stream = credential->stream.id();
  if (!find(id)) make_room(stream, credential->epoch);
  auto known = std::make_unique<KnownCredential>();
  known->id = id;
  known->stream = stream;
  for (const std::string& scope : credential->scopes)
    known->scopes.push_back(*proto::TopicPattern::parse(scope));
  known->credential = std::move(*credential);
  known->sealed = std::move(*sealed);
  KnownCredential* result = known.get();
  streams_[stream][{result->credential.epoch, result->credential.serial}] = id;
  known_[id] = std::move(known);
  ++checking_;
  return result;
}

proto::Decoded<KnownCredential*> CredentialBook::judge(
    const proto::Hash& id, const proto::Decoded<CredentialVerdict>& verdict) {
  KnownCredential* known = find(id);
  if (!known) return proto::refuse(proto::Reject::UnknownCredential);
  if (known->state == KnownCredential::State::Checking) --checking_;
  const auto refused = [&](proto::Reject why) {
    known->state = KnownCredential::State::Refused;
    known->why = why;
    return proto::refuse(why);
  };
  if (!verdict && verdict.error() == proto::Reject::Unavailable) {
    // gpg itself failed: that says nothing of the credential. A verdict given before stands.
    if (known->state == KnownCredential::State::Checking) {
      streams_[known->stream].erase({known->credential.epoch, known->credential.serial});
      known_.erase(id);
    }
    return proto::refuse(proto::Reject::Unavailable);
  }
  if (!verdict) return refused(verdict.error());
  if (verdict->primary_fingerprint != known->credential.stream.fingerprint)
    return refused(proto::Reject::WrongSigner);
  if (verdict->key_expires_s != 0 &&
      known->credential.not_after_ns > static_cast<std::uint64_t>(verdict->key_expires_s) * kNsPerSecond)
    return refused(proto::Reject::KeyExpired);
  known->state = KnownCredential::State::Good;
  return known;
}

bool CredentialBook::allows(KnownCredential& known, proto::ByteView topic) {
  const auto it = known.allowed.find(std::string(topic));
  if (it != known.allowed.end()) return it->second;
  if (known.allowed.size() >= kMaxTopicsRemembered) known.allowed.clear();
  return known.allowed[std::string(topic)] = proto::matches_any(known.scopes, topic) &&
                                             policy_.allows(known.credential.stream, topic);
}

proto::Decoded<KnownCredential*> CredentialBook::check_life(const proto::Hash& id,
                                                            std::uint64_t time_ns, bool live,
                                                            base::Now now) {
  KnownCredential* known = find(id);
  if (!known || known->state == KnownCredential::State::Checking)
    return proto::refuse(proto::Reject::UnknownCredential);
  if (known->state == KnownCredential::State::Refused) return proto::refuse(known->why);
  const proto::Credential& credential = known->credential;
  if (time_ns < credential.not_before_ns) return proto::refuse(proto::Reject::CredentialNotYet);
  if (time_ns > credential.not_after_ns) return proto::refuse(proto::Reject::CredentialExpired);
  if (live && now.wall > base::from_ns(credential.not_after_ns) + kSkew)
    return proto::refuse(proto::Reject::CredentialExpired);
  return known;
}

proto::Decoded<KnownCredential*> CredentialBook::check_seal(const proto::Hash& id,
                                                            std::uint64_t time_ns,
                                                            proto::ByteView bytes,
                                                            proto::ByteView seal, bool live,
                                                            base::Now now) {
  auto known = check_life(id, time_ns, live, now);
  if (!known) return known;
  if (!trust::verify_seal((*known)->credential.session_key, bytes, seal))
    return proto::refuse(proto::Reject::BadSignature);
  return known;
}

std::vector<KnownCredential*> CredentialBook::renew(trust::Policy policy) {
  policy_ = std::move(policy);
  std::vector<KnownCredential*> again;
  for (auto& [id, known] : known_) {
    known->allowed.clear();
    if (known->state == KnownCredential::State::Checking) continue;
    if (!policy_.lists(known->credential.stream)) {
      known->state = KnownCredential::State::Refused;
      known->why = proto::Reject::PolicyDenied;
    } else {
      again.push_back(known.get());
    }
  }
  return again;
}

}  // namespace mirrorbus::peer
