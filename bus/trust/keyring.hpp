// One door to the schemes that credentials are signed with: what a reader believes, and what a
// publisher signs with. All but stamp() and fingerprint() may start gpg and read many files: worker
// threads only.
#pragma once

#include "bus/trust/verified.hpp"
#include "bus/trust/x509.hpp"
#include "proto/credential.hpp"

#include <map>
#include <optional>
#include <string>
#include <utility>

namespace mirrorbus::trust {

struct Keyring {
  std::string gnupg_home;  // either may be empty: then nobody is known by that scheme
  X509Trust x509;

  // As OpenPgp's and X509Trust's. SchemeMismatch where there is nothing to check a signature with.
  proto::Decoded<Verified> verify(const proto::StreamName& stream,
                                  const proto::SealedCredential& sealed) const;
  // Changes when keys, certificates or CRLs do. A few system calls.
  std::string stamp() const;
};

// What a keyring says, read once: what many credentials are judged by when it has changed. Each
// scheme is read when it is first asked about: one that cannot be read is no trouble of the other.
class KeyringSnapshot {
 public:
  explicit KeyringSnapshot(Keyring keyring) : keyring_(std::move(keyring)) {}

  // What Keyring::verify() says now of a signature that it has verified before, as `signer`'s.
  // Nothing: ask it. Throws std::runtime_error if the scheme's keys cannot be read.
  std::optional<proto::Decoded<Verified>> standing(proto::Scheme scheme,
                                                   const proto::Bytes& signer);

 private:
  Keyring keyring_;
  // By fingerprint, subkeys too.
  std::optional<std::map<proto::Bytes, proto::Decoded<Verified>>> openpgp_;
  std::optional<X509Files> x509_;
};

struct Identity {
  proto::Scheme scheme = proto::Scheme::None;
  std::string key;          // OpenPGP: primary fingerprint; X.509: the private key's file
  std::string certificate;  // X.509: its certificate's file
  std::string gnupg_home;   // OpenPGP

  // What streams and rules call it. Throws std::runtime_error that says what to look at, as do the
  // others.
  proto::Bytes fingerprint() const;
  std::int64_t expires_s() const;  // 0 = never
  proto::Bytes sign(proto::ByteView document) const;
};

}  // namespace mirrorbus::trust
