// What is known of each publisher's credentials, and whether a header or head is sealed by one that
// may seal it. Pure: gpg's verdicts come in from outside.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/peer/source_budget.hpp"
#include "bus/trust/policy.hpp"
#include "proto/batch.hpp"
#include "proto/credential.hpp"
#include "proto/head.hpp"

#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

namespace mirrorbus::peer {

// What the OpenPGP or X.509 check of a credential's signature found.
struct CredentialVerdict {
  proto::Bytes primary_fingerprint;
  std::int64_t key_expires_s = 0;  // 0 = never
  proto::Bytes signer;             // the key that signed: OpenPGP's may be a subkey
};

// One known credential.
struct KnownCredential {
  enum class State { Checking, Good, Refused };
  proto::Hash id;
  proto::Credential credential;
  proto::SealedCredential sealed;
  proto::Hash stream;
  SourceId source = 0;  // who gave it to us
  State state = State::Checking;
  proto::Reject why = proto::Reject::UnknownCredential;  // while not Good
  // The latest head that came while this was being checked, unverified, and from whom.
  proto::Bytes early_head;
  SourceId early_source = 0;
  proto::Bytes signer;  // the key that signed it, once that has been checked
  std::vector<proto::TopicPattern> scopes;
  // By topic: what policy and scope together say.
  std::unordered_map<std::string, std::optional<proto::Reject>> denied;
};

class CredentialBook {
 public:
  // How far clocks may disagree.
  static constexpr base::Duration kSkew = std::chrono::seconds(300);
  static constexpr std::size_t kMaxChecking = 16;
  static constexpr std::size_t kMaxPerStream = 64;
  static constexpr std::size_t kMaxRefused = 1024;

  explicit CredentialBook(trust::Policy policy) : policy_(std::move(policy)) {}

  // Did we ask for a credential, or is it somebody's announcement? An announcement is news only if
  // it is newer than what is known.
  enum class Came { Asked, Announced };
  // A credential as received. The known one if its signature must now be checked; nothing if it is
  // known already; or why it is not taken. `budget` says whether gpg may be started for `source`.
  proto::Decoded<KnownCredential*> offer(proto::ByteView sealed, Came came, SourceId source,
                                         SourceBudget& budget, base::Now now);
  // The verdict for one that was to be checked. The credential if it is Good now.
  proto::Decoded<KnownCredential*> judge(const proto::Hash& id,
                                         const proto::Decoded<CredentialVerdict>& verdict);
  KnownCredential* find(const proto::Hash& id);
  const KnownCredential* find(const proto::Hash& id) const {
    return const_cast<CredentialBook*>(this)->find(id);
  }
  // The one that began this epoch (serial 0), if it is Good.
  const proto::Credential* first_of(const proto::Hash& stream, std::uint64_t epoch) const;
  // For who wants to keep one: when the book drops it, it is Refused and stays readable.
  std::shared_ptr<KnownCredential> share(const proto::Hash& id);

  // Why `topic` may not be said by this credential's stream: ScopeDenied, PolicyDenied, or nothing.
  std::optional<proto::Reject> denies(KnownCredential& known, proto::ByteView topic);

  // A Good credential seals these bytes, at a time within its life. `live`: what is heard now must
  // also not outlive the credential.
  proto::Decoded<KnownCredential*> check_seal(const proto::Hash& credential, std::uint64_t time_ns,
                                              proto::ByteView bytes, proto::ByteView seal,
                                              bool live, base::Now now);
  // The same without the signature, which follows from a sealed later header.
  proto::Decoded<KnownCredential*> check_life(const proto::Hash& credential, std::uint64_t time_ns,
                                              bool live, base::Now now);

  // Another policy, or another keyring: every credential must be checked again, and those to check
  // are returned. Verdicts stand until the new ones come, but what the policy no longer lists is
  // refused at once.
  std::vector<KnownCredential*> renew(trust::Policy policy);

 private:
  using Age = std::tuple<std::uint64_t, std::uint32_t, proto::Hash>;  // epoch, serial, id

  void forget(const proto::Hash& id);
  void make_room(std::map<Age, KnownCredential*>& by_age, std::uint64_t epoch);
  void remember_refused(const proto::Hash& as_sealed, proto::Reject why);

  trust::Policy policy_;
  std::unordered_map<proto::Hash, std::shared_ptr<KnownCredential>> known_;
  // By stream: those that have been good. What never was takes no room among them.
  std::unordered_map<proto::Hash, std::map<Age, KnownCredential*>> streams_;
  std::size_t checking_ = 0;
  // Document and signature together, by their hash: gpg is not started for these again.
  std::unordered_map<proto::Hash, proto::Reject> refused_;
  std::deque<proto::Hash> refused_order_;
};

}  // namespace mirrorbus::peer
