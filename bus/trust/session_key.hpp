// Session keys: Ed25519 (RFC 8032) by libsodium. The secret half lives in locked memory only and dies
// with the object. libsodium is the one verifier everywhere: it refuses non-canonical S and
// small-order keys, and mixing implementations would split on such edges.
#pragma once

#include "proto/bytes.hpp"

#include <array>

namespace mirrorbus::trust {

using Seal = std::array<char, 64>;

class SessionKey {
 public:
  // Fresh, from the system's randomness.
  SessionKey();
  // Deterministic, for vectors and simulations.
  explicit SessionKey(const proto::Hash& seed);
  ~SessionKey();
  SessionKey(SessionKey&& other) noexcept;
  SessionKey& operator=(SessionKey&& other) noexcept;

  const proto::Hash& public_key() const noexcept { return public_key_; }
  Seal sign(proto::ByteView bytes) const;  // 13 µs

 private:
  proto::Hash public_key_;
  unsigned char* secret_ = nullptr;  // sodium_malloc: locked, guarded, wiped
};

// 35 µs. `seal` must have 64 bytes, else false.
bool verify_seal(const proto::Hash& public_key, proto::ByteView bytes, proto::ByteView seal) noexcept;

void random_bytes(void* out, std::size_t size) noexcept;

// Takes the same time wherever they differ.
bool same_secret(const proto::Hash& a, const proto::Hash& b) noexcept;

}  // namespace mirrorbus::trust
