// SHA-256 (FIPS 180-4): the one cryptographic primitive the formats themselves need.
#pragma once

#include "proto/bytes.hpp"

#include <cstddef>

namespace mirrorbus::proto {

// Incremental; a value that may be copied to fork a prefix.
class Sha256 {
 public:
  Sha256() noexcept;
  Sha256& update(ByteView bytes) noexcept;
  Hash finish() noexcept;  // the object must not be used afterwards

 private:
  alignas(8) unsigned char state_[112];
};

Hash sha256(ByteView bytes) noexcept;

}  // namespace mirrorbus::proto
