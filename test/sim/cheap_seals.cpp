// Session keys for the simulator: a seal is a hash of the public key and the bytes. Anyone could make
// one, and nobody in a storm forges; real seals (84 % of a storm's time) are what `storm` itself runs
// with. Linked before bus/trust, whose object of the same symbols is then left out.
#include "bus/trust/session_key.hpp"
#include "proto/sha256.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mirrorbus::trust {
namespace {

Seal seal_of(const proto::Hash& public_key, proto::ByteView bytes) {
  const proto::Hash hash = proto::Sha256().update(public_key.view()).update(bytes).finish();
  Seal seal{};
  std::ranges::copy(hash.view(), seal.begin());
  return seal;
}

}  // namespace

SessionKey::SessionKey() { random_bytes(public_key_.octets.data(), proto::Hash::kSize); }
SessionKey::SessionKey(const proto::Hash& seed) : public_key_(proto::sha256(seed.view())) {}
SessionKey::~SessionKey() = default;
SessionKey::SessionKey(SessionKey&& other) noexcept : public_key_(other.public_key_) {}
SessionKey& SessionKey::operator=(SessionKey&& other) noexcept {
  std::swap(public_key_, other.public_key_);
  return *this;
}

Seal SessionKey::sign(proto::ByteView bytes) const { return seal_of(public_key_, bytes); }

bool verify_seal(const proto::Hash& public_key, proto::ByteView bytes,
                 proto::ByteView seal) noexcept {
  const Seal good = seal_of(public_key, bytes);
  return seal == proto::ByteView(good.data(), good.size());
}

bool same_secret(const proto::Hash& a, const proto::Hash& b) noexcept { return a == b; }

// Storms draw from their seeds; what asks here need not differ from run to run.
void random_bytes(void* out, std::size_t size) noexcept { std::memset(out, 7, size); }

}  // namespace mirrorbus::trust
