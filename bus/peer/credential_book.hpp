// What is known of each publisher's credentials, and whether a header or head is sealed by one that
// may seal it. Pure: gpg's verdicts come in from outside.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/trust/policy.hpp"
#include "proto/batch.hpp"
#include "proto/credential.hpp"
#include "proto/head.hpp"

#include <map>
#include <memory>
#include <unordered_map>

namespace mirrorbus::peer {

// What the OpenPGP or X.509 check of a credential's signature found.
struct CredentialVerdict {
  proto::Bytes primary_fingerprint;
  std::int64_t key_expires_s = 0;  // 0 = never
};

// One known credential.
struct KnownCredential {
  enum class State { Checking, Good, Refused };
  proto::Hash id;
  proto::Credential credential;
  proto::SealedCredential sealed;
  proto::Hash stream;
  State state = State::Checking;
  proto::Reject why = proto::Reject::UnknownCredential;  // while not Good
  std::vector<proto::TopicPattern> scopes;
  std::unordered_map<std::string, bool> allowed;  // by topic: policy and scope together
};

class CredentialBook {
 public:
  // How far clocks may disagree.
  static constexpr base::Duration kSkew = std::chrono::seconds(300);
  static constexpr std::size_t kMaxChecking = 16;
  static constexpr std::size_t kMaxPerStream = 64;

  explicit CredentialBook(trust::Policy policy) : policy_(std::move(policy)) {}

  // A credential as received. The known one if its signature must now be checked; nothing if it is
  // known already; or why it is not taken.
  proto::Decoded<KnownCredential*> offer(proto::ByteView sealed, base::Now now);
  // The verdict for one that was to be checked. The credential if it is Good now.
  proto::Decoded<KnownCredential*> judge(const proto::Hash& id,
                                         const proto::Decoded<CredentialVerdict>& verdict);
  KnownCredential* find(const proto::Hash& id);
  const KnownCredential* find(const proto::Hash& id) const {
    return const_cast<CredentialBook*>(this)->find(id);
  }

  // May `topic` be said by this credential's stream, by scope and by policy?
  bool allows(KnownCredential& known, proto::ByteView topic);

  // A Good credential seals these bytes, at a time within its life. `live`: what is heard now must
  // also not outlive the credential.
  proto::Decoded<KnownCredential*> check_seal(const proto::Hash& credential, std::uint64_t time_ns,
                                              proto::ByteView bytes, proto::ByteView seal, bool live,
                                              base::Now now);
  // The same without the signature, which follows from a sealed later header.
  proto::Decoded<KnownCredential*> check_life(const proto::Hash& credential, std::uint64_t time_ns,
                                              bool live, base::Now now);

  // Another policy, or another keyring: every credential must be checked again, and those to check
  // are returned. Verdicts stand until the new ones come, but what the policy no longer lists is
  // refused at once.
  std::vector<KnownCredential*> renew(trust::Policy policy);

 private:
  void make_room(const proto::Hash& stream, std::uint64_t newest_epoch);

  trust::Policy policy_;
  std::unordered_map<proto::Hash, std::unique_ptr<KnownCredential>> known_;
  // By stream, then (epoch, serial).
  std::unordered_map<proto::Hash, std::map<std::pair<std::uint64_t, std::uint32_t>, proto::Hash>> streams_;
  std::size_t checking_ = 0;
};

}  // namespace mirrorbus::peer
