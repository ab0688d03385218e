#include "bus/trust/session_key.hpp"

#include <new>
#include <stdexcept>
#include <utility>

#include <sodium.h>

namespace mirrorbus::trust {
namespace {

const unsigned char* octets(proto::ByteView bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

unsigned char* locked_secret() {
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot start");
  auto* secret = static_cast<unsigned char*>(sodium_malloc(crypto_sign_SECRETKEYBYTES));
  if (!secret) throw std::bad_alloc();
  return secret;
}

}  // namespace

SessionKey::SessionKey() : secret_(locked_secret()) {
  crypto_sign_keypair(public_key_.octets.data(), secret_);
  sodium_mprotect_readonly(secret_);
}

SessionKey::SessionKey(const proto::Hash& seed) : secret_(locked_secret()) {
  crypto_sign_seed_keypair(public_key_.octets.data(), secret_, seed.octets.data());
  sodium_mprotect_readonly(secret_);
}

SessionKey::~SessionKey() { sodium_free(secret_); }

SessionKey::SessionKey(SessionKey&& other) noexcept
    : public_key_(other.public_key_), secret_(std::exchange(other.secret_, nullptr)) {}

SessionKey& SessionKey::operator=(SessionKey&& other) noexcept {
  std::swap(public_key_, other.public_key_);
  std::swap(secret_, other.secret_);
  return *this;
}

Seal SessionKey::sign(proto::ByteView bytes) const {
  Seal seal;
  crypto_sign_detached(reinterpret_cast<unsigned char*>(seal.data()), nullptr, octets(bytes),
                       bytes.size(), secret_);
  return seal;
}

bool verify_seal(const proto::Hash& public_key, proto::ByteView bytes, proto::ByteView seal) noexcept {
  return seal.size() == crypto_sign_BYTES &&
         crypto_sign_verify_detached(octets(seal), octets(bytes), bytes.size(),
                                     public_key.octets.data()) == 0;
}

bool same_secret(const proto::Hash& a, const proto::Hash& b) noexcept {
  return sodium_memcmp(a.octets.data(), b.octets.data(), proto::Hash::kSize) == 0;
}

void random_bytes(void* out, std::size_t size) noexcept { randombytes_buf(out, size); }

}  // namespace mirrorbus::trust
