// Has credentials' signatures checked, by gpg on a worker, and notices when keys, certificates or
// CRLs have changed. Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/pool.hpp"
#include "bus/peer/credential_book.hpp"
#include "bus/peer/settings.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace mirrorbus::peer {

class CredentialChecker {
 public:
  using Judge = std::function<void(const proto::Decoded<CredentialVerdict>&)>;

  CredentialChecker(base::Loop& loop, const TrustSettings& trust, base::Log log);
  // Does not wait for a gpg that hangs.
  ~CredentialChecker();

  // `judge` is told what was found, later, once; not after our destruction. Unavailable: gpg failed
  // again and again, which says nothing of the credential. Signatures that have been checked before
  // are judged by what the keyring says of their keys: all of them by one reading of it.
  void check(const KnownCredential& known, Judge judge);

  // Must all be checked again? Yes once after each change, and when a CRL has come to its end.
  bool changed();
  // Other keys; the caller has all checked again.
  void set_trust(const TrustSettings& trust);
  const TrustSettings& trust() const { return trust_; }

  // How long gpg has been at one check. It waits without end for a lock that a process holds which
  // does not go on; said once in a while.
  base::Duration running() const;
  void wait_idle() { worker_.wait_idle(); }

 private:
  using Outcome = base::Outcome<proto::Decoded<trust::Verified>>;
  // One credential that is being checked.
  struct Check {
    proto::Hash id;
    proto::StreamName stream;
    proto::SealedCredential sealed;
    proto::Bytes signer;  // of one whose signature has been checked before
    Judge judge;
    int tries = 0;
  };
  // The keyring as it was read last, for those. Worker only.
  struct Reading {
    std::uint64_t generation = 0;
    std::optional<trust::KeyringSnapshot> snapshot;
  };

  template <class Job, class Done>
  void submit(Job job, Done done);
  void start(Check check);
  void found(Check check, std::uint64_t generation, const Outcome& outcome);
  void tell_running();

  base::Loop& loop_;
  TrustSettings trust_;
  base::Log log_;
  std::string keyring_stamp_;
  std::uint64_t generation_ = 1;  // of the keyring
  std::shared_ptr<Reading> reading_ = std::make_shared<Reading>();
  std::int64_t recheck_s_ = 0;  // when what was looked at for revocation ends; 0 = never
  std::map<proto::Hash, std::unique_ptr<base::Timer>> verify_again_;  // by credential
  std::size_t waiting_ = 0;  // checks that were submitted and are not done
  base::MonoTime began_{};   // the first of them
  base::Timer running_told_;
  base::WorkerPool worker_;
};

}  // namespace mirrorbus::peer
