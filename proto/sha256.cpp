// The EVP interface fetches and allocates per digest, which costs more than hashing a short leaf
// (65 bytes: 15.0 M/s here against 9.9 M/s with a reused EVP context). The low-level functions are
// deprecated in OpenSSL 3 but present and use the same SHA-NI code; only this file knows.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "proto/sha256.hpp"

#include <new>

#include <openssl/sha.h>

namespace mirrorbus::proto {
namespace {
SHA256_CTX& context(unsigned char* state) { return *std::launder(reinterpret_cast<SHA256_CTX*>(state)); }
}  // namespace

Sha256::Sha256() noexcept {
  static_assert(sizeof(SHA256_CTX) <= sizeof state_ && alignof(SHA256_CTX) <= 8);
  SHA256_Init(new (state_) SHA256_CTX);
}

Sha256& Sha256::update(ByteView bytes) noexcept {
  SHA256_Update(&context(state_), bytes.data(), bytes.size());
  return *this;
}

Hash Sha256::finish() noexcept {
  Hash hash;
  SHA256_Final(hash.octets.data(), &context(state_));
  return hash;
}

Hash sha256(ByteView bytes) noexcept { return Sha256().update(bytes).finish(); }

}  // namespace mirrorbus::proto
