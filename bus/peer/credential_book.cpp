#include "bus/peer/credential_book.hpp"

#include "bus/trust/session_key.hpp"
#include "proto/sha256.hpp"

namespace mirrorbus::peer {
namespace {
constexpr std::size_t kMaxTopicsRemembered = 4096;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

proto::Hash seal_hash(const proto::SealedCredential& sealed) {
  return proto::Sha256().update(sealed.document).update(sealed.signature).finish();
}
}  // namespace

KnownCredential* CredentialBook::find(const proto::Hash& id) {
  const auto it = known_.find(id);
  return it == known_.end() ? nullptr : it->second.get();
}

std::shared_ptr<KnownCredential> CredentialBook::share(const proto::Hash& id) {
  const auto it = known_.find(id);
  return it == known_.end() ? nullptr : it->second;
}

const proto::Credential* CredentialBook::first_of(const proto::Hash& stream,
                                                  std::uint64_t epoch) const {
  const auto its = streams_.find(stream);
  if (its == streams_.end()) return nullptr;
  for (auto it = its->second.lower_bound({epoch, 0, {}});
       it != its->second.end() && it->second->credential.epoch == epoch &&
       it->second->credential.serial == 0;
       ++it)
    if (it->second->state == KnownCredential::State::Good) return &it->second->credential;
  return nullptr;
}

void CredentialBook::forget(const proto::Hash& id) {
  const auto it = known_.find(id);
  if (it->second->state == KnownCredential::State::Checking) --checking_;
  // Whoever still holds it must not go on believing it.
  it->second->state = KnownCredential::State::Refused;
  it->second->why = proto::Reject::UnknownCredential;
  known_.erase(it);
}

void CredentialBook::make_room(std::map<Age, KnownCredential*>& by_age, std::uint64_t epoch) {
  while (by_age.size() >= kMaxPerStream) {
    // If the newcomer is older than the second newest, a replay is at work in old times: then that
    // one goes, which it will need last. Else the oldest. The one the stream goes on with stays.
    auto victim = std::prev(by_age.end(), 2);
    if (std::get<0>(victim->first) <= epoch) victim = by_age.begin();
    forget(victim->second->id);
    by_age.erase(victim);
  }
}

void CredentialBook::remember_refused(const proto::Hash& as_sealed, proto::Reject why) {
  if (!refused_.emplace(as_sealed, why).second) return;
  refused_order_.push_back(as_sealed);
  if (refused_order_.size() <= kMaxRefused) return;
  refused_.erase(refused_order_.front());
  refused_order_.pop_front();
}

proto::Decoded<KnownCredential*> CredentialBook::offer(proto::ByteView bytes, Came came,
                                                       SourceId source, SourceBudget& budget,
                                                       base::Now now) {
  auto sealed = proto::decode_sealed(bytes);
  if (!sealed) return proto::refuse(sealed.error());
  const proto::Hash id = proto::credential_id(sealed->document);
  if (find(id)) return nullptr;
  if (const auto it = refused_.find(seal_hash(*sealed)); it != refused_.end())
    return proto::refuse(it->second);
  auto credential = proto::decode_credential(sealed->document);
  if (!credential) return proto::refuse(credential.error());
  if (!policy_.lists(credential->stream)) return proto::refuse(proto::Reject::PolicyDenied);
  if (base::from_ns(credential->issued_ns) > now.wall + kSkew)
    return proto::refuse(proto::Reject::CredentialFuture);
  const proto::Hash stream = credential->stream.id();
  if (const auto it = streams_.find(stream);
      came == Came::Announced && it != streams_.end() && !it->second.empty()) {
    const auto& [epoch, serial, newest] = it->second.rbegin()->first;
    if (std::pair(credential->epoch, credential->serial) <= std::pair(epoch, serial))
      return proto::refuse(proto::Reject::Superseded);
  }
  if (budget.cut(source, stream, now.mono)) return proto::refuse(proto::Reject::SourceCut);
  if (checking_ >= kMaxChecking || !budget.take_check(source, now.mono))
    return proto::refuse(proto::Reject::Busy);

  auto known = std::make_shared<KnownCredential>();
  known->id = id;
  known->stream = stream;
  known->source = source;
  for (const std::string& scope : credential->scopes)
    known->scopes.push_back(*proto::TopicPattern::parse(scope));
  known->credential = std::move(*credential);
  known->sealed = std::move(*sealed);
  ++checking_;
  return (known_[id] = std::move(known)).get();
}

proto::Decoded<KnownCredential*> CredentialBook::judge(
    const proto::Hash& id, const proto::Decoded<CredentialVerdict>& verdict) {
  KnownCredential* known = find(id);
  if (!known) return proto::refuse(proto::Reject::UnknownCredential);
  const bool first = known->state == KnownCredential::State::Checking;
  const auto why = [&]() -> std::optional<proto::Reject> {
    if (!verdict) return verdict.error();
    if (verdict->primary_fingerprint != known->credential.stream.fingerprint)
      return proto::Reject::WrongSigner;
    if (verdict->key_expires_s != 0 &&
        known->credential.not_after_ns >
            static_cast<std::uint64_t>(verdict->key_expires_s) * kNsPerSecond)
      return proto::Reject::KeyExpired;
    return std::nullopt;
  }();
  if (why == proto::Reject::Unavailable) {
    // gpg itself failed: that says nothing of the credential. A verdict given before stands.
    if (first) forget(id);
    return proto::refuse(*why);
  }
  if (why && first) {
    remember_refused(seal_hash(known->sealed), *why);
    forget(id);
    return proto::refuse(*why);
  }
  if (why) {
    // It was good, and much may refer to it: it stays, and says why it is good no more.
    known->state = KnownCredential::State::Refused;
    known->why = *why;
    return proto::refuse(*why);
  }
  known->state = KnownCredential::State::Good;
  known->signer = verdict->signer;
  if (first) {
    --checking_;
    auto& by_age = streams_[known->stream];
    make_room(by_age, known->credential.epoch);
    by_age[{known->credential.epoch, known->credential.serial, id}] = known;
  }
  return known;
}

std::optional<proto::Reject> CredentialBook::denies(KnownCredential& known, proto::ByteView topic) {
  const auto it = known.denied.find(std::string(topic));
  if (it != known.denied.end()) return it->second;
  if (known.denied.size() >= kMaxTopicsRemembered) known.denied.clear();
  auto& why = known.denied[std::string(topic)];
  if (!proto::matches_any(known.scopes, topic))
    why = proto::Reject::ScopeDenied;
  else if (!policy_.allows(known.credential.stream, topic))
    why = proto::Reject::PolicyDenied;
  return why;
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
  if (live && now.wall - kSkew > base::from_ns(credential.not_after_ns))
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
  refused_.clear();
  refused_order_.clear();
  std::vector<KnownCredential*> again;
  for (auto& [id, known] : known_) {
    known->denied.clear();
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
