// X.509 through OpenSSL: keys are named by the SHA-256 of their SubjectPublicKeyInfo, certificates
// and revocation lists (CRLs) come from files only. Reads files: worker threads only.
#pragma once

#include "bus/trust/verified.hpp"
#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <memory>
#include <string>

namespace mirrorbus::trust {

// The signing side: a private key and the certificate that others know it by.
class X509Signer {
 public:
  // PEM files; the key without a passphrase. Throws std::runtime_error that says what to look at.
  X509Signer(const std::string& key_file, const std::string& certificate_file);
  ~X509Signer();

  const proto::Bytes& fingerprint() const;  // SHA-256 of the SubjectPublicKeyInfo
  std::int64_t expires_s() const;           // the certificate's notAfter, since 1970
  // RSA (PKCS #1 v1.5) and ECDSA with SHA-256, or Ed25519: as `openssl dgst -sha256 -sign` makes
  // it.
  proto::Bytes sign(proto::ByteView document) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The fingerprint of the first certificate in a PEM file. Throws like X509Signer.
proto::Bytes certificate_fingerprint(const std::string& certificate_file);
// Did its key sign this? Its chain is not looked at. BadSignature; throws like X509Signer.
proto::Decoded<Verified> verify_by_certificate(const std::string& certificate_file,
                                               proto::ByteView document,
                                               proto::ByteView signature);

struct X509Trust {
  std::string authorities;   // PEM file of the certificates that every chain must end in
  std::string certificates;  // folder of PEM files: publishers' and intermediate certificates, CRLs
  bool crl = true;           // a chain without a valid CRL of each issuer is refused

  // UnknownSigner: no certificate of that key. BadSignature. KeyRevoked: a CRL lists it, or one
  // above it. RevocationUnknown: a CRL is missing, expired or not its issuer's. UntrustedSigner: no
  // chain to an authority, not valid yet, weak, or not for signatures. Certificates that have
  // expired since still verify what was signed: `expires_s` says how far they reach. Throws
  // std::runtime_error if the files cannot be read.
  proto::Decoded<Verified> verify(proto::ByteView fingerprint, proto::ByteView document,
                                  proto::ByteView signature) const;
};

// The files of an X509Trust, read once.
class X509Files {
 public:
  // Throws std::runtime_error if they cannot be read.
  explicit X509Files(const X509Trust& trust);
  ~X509Files();

  // As X509Trust::verify().
  proto::Decoded<Verified> verify(proto::ByteView fingerprint, proto::ByteView document,
                                  proto::ByteView signature) const;
  // What verify() says now of a signature by this key that it has verified before.
  proto::Decoded<Verified> standing(proto::ByteView fingerprint) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;  // none: nobody is known
};

}  // namespace mirrorbus::trust
