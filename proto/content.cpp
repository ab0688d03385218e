#include "proto/content.hpp"

#include "proto/wire.hpp"

#include <algorithm>

namespace mirrorbus::proto {
namespace {
constexpr std::uint8_t kHeld = 0;
constexpr std::uint8_t kGone = 1;
}  // namespace

Bytes encode_content_request(const std::vector<Hash>& hashes) {
  Bytes body;
  body.reserve(hashes.size() * Hash::kSize);
  for (const Hash& hash : hashes) body += hash.view();
  return body;
}

Decoded<std::vector<Hash>> decode_content_request(ByteView body) {
  if (body.size() > kMaxContentBatch * Hash::kSize) return refuse(Reject::TooLarge);
  if (body.empty() || body.size() % Hash::kSize != 0) return refuse(Reject::Truncated);
  std::vector<Hash> hashes;
  hashes.reserve(body.size() / Hash::kSize);
  for (; !body.empty(); body.remove_prefix(Hash::kSize))
    hashes.push_back(Hash::from_bytes(body.substr(0, Hash::kSize)));
  return hashes;
}

void append_content_header(Bytes& out, const Hash& hash, std::uint64_t size) {
  Writer(out).hash(hash).u8(kHeld).u64(size);
}
void append_content_gone(Bytes& out, const Hash& hash) { Writer(out).hash(hash).u8(kGone).u64(0); }

std::optional<Reject> ContentParser::feed(ByteView bytes) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const std::size_t take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
      events_.on_bytes(bytes.substr(0, take));
      bytes.remove_prefix(take);
      left_ -= take;
      if (left_ == 0) events_.on_end();
      continue;
    }
    const std::size_t take = std::min(kContentHeaderSize - header_.size(), bytes.size());
    header_ += bytes.substr(0, take);
    bytes.remove_prefix(take);
    if (header_.size() < kContentHeaderSize) continue;
    Reader r(header_);
    const Hash hash = r.hash();
    const std::uint8_t status = r.u8();
    left_ = r.u64();
    header_.clear();
    if (status == kGone && left_ == 0) {
      events_.on_gone(hash);
    } else if (status == kHeld) {
      events_.on_begin(hash, left_);
      if (left_ == 0) events_.on_end();
    } else {
      return Reject::BadField;
    }
  }
  return std::nullopt;
}

}  // namespace mirrorbus::proto
