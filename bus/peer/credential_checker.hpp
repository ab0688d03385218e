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
#include <string>

namespace mirrorbus::peer {

class CredentialChecker {
 public:
  using Judge = std::function<void(const proto::Decoded<CredentialVerdict>&)>;

  CredentialChecker(base::Loop& loop, const TrustSettings& trust, base::Log log);

  // `judge` is told what was found, later, once; not after our destruction. Unavailable: gpg failed
  // again and again, which says nothing of the credential.
  void check(const KnownCredential& known, Judge judge);

  // Must all be checked again? Yes once after each change, and when a CRL has come to its end.
  bool changed();
  // Other keys; the caller has all checked again.
  void set_trust(const TrustSettings& trust);
  const TrustSettings& trust() const { return trust_; }

  base::WorkerPool& worker() { return worker_; }  // for more that may block

 private:
  void verify(const proto::StreamName& stream, const proto::SealedCredential& sealed, Judge judged,
              int tries);

  base::Loop& loop_;
  TrustSettings trust_;
  base::Log log_;
  std::string keyring_stamp_;
  std::int64_t recheck_s_ = 0;  // when what was looked at for revocation ends; 0 = never
  std::map<proto::Hash, std::unique_ptr<base::Timer>> verify_again_;  // by credential
  base::WorkerPool worker_;
};

}  // namespace mirrorbus::peer
