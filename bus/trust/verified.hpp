// What a credential's signature, checked, says of its key. The same for every scheme.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>

namespace mirrorbus::trust {

struct Verified {
  proto::Bytes fingerprint;    // as KeyName's
  proto::Bytes signer;         // of the key that signed: OpenPGP's may be a subkey
  std::int64_t expires_s = 0;  // when the key ends, since 1970; 0 = never
  std::int64_t recheck_s = 0;  // what was looked at for revocation is good until then; 0 = for ever
};

}  // namespace mirrorbus::trust
