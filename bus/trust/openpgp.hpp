// OpenPGP through gpgme, in a GnuPG home of our own. Every call starts a gpg process (4 ms and
// more) and blocks: worker threads only, one OpenPgp per thread.
#pragma once

#include "bus/trust/verified.hpp"
#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::trust {

class OpenPgp {
 public:
  // `home` is a GnuPG home directory; gpg never goes to the network from it.
  explicit OpenPgp(const std::string& home);
  ~OpenPgp();

  // A detached binary signature by the key with this primary fingerprint (hexadecimal), made by its
  // signing subkey if it has one. Throws std::runtime_error that says what to look at.
  proto::Bytes sign(const std::string& primary_fingerprint, proto::ByteView document);

  // When the key with this primary fingerprint and its newest usable signing subkey end, in seconds
  // since 1970; 0 = never. Throws like sign().
  std::int64_t signing_key_expires(const std::string& primary_fingerprint);

  // Every public key that is not revoked: primary fingerprints.
  std::vector<proto::Bytes> public_keys();

  // UnknownSigner, BadSignature or KeyRevoked. A key that has expired since still verifies what it
  // signed: `expires_s` says how far it reaches.
  proto::Decoded<Verified> verify(proto::ByteView document, proto::ByteView signature);

  // By fingerprint of each key and subkey of the home: what verify() says now of a signature that
  // it has verified before. One gpg for them all. Where it failed some or all are missing, and only
  // verify() tells whether a key is not there.
  std::map<proto::Bytes, proto::Decoded<Verified>> signers();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace mirrorbus::trust
