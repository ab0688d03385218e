#include "proto/head.hpp"

#include "proto/batch.hpp"
#include "proto/limits.hpp"
#include "proto/topic.hpp"
#include "proto/wire.hpp"

namespace mirrorbus::proto {
namespace {
constexpr ByteView kMagic("mirrorbus-head\0\0", 16);
constexpr std::uint8_t kVersion = 1;
}  // namespace

Bytes encode_head(const Head& head) {
  Bytes out;
  Writer w(out);
  w.raw(kMagic).u8(kVersion).u8(0).u16(static_cast<std::uint16_t>(head.pairs.size()));
  w.hash(head.stream).hash(head.credential);
  w.u64(head.epoch).u64(head.beat).u64(head.time_ns).u32(head.next_ms);
  w.u64(head.since).u64(head.last).u64(head.oldest).u64(head.batch).hash(head.header);
  for (const Head::Pair& pair : head.pairs) w.short_string(pair.prefix).u64(pair.last);
  return out;
}

Decoded<Head> decode_head(ByteView bytes) {
  Reader r(bytes);
  const ByteView magic = r.raw(kMagic.size());
  const std::uint8_t version = r.u8(), flags = r.u8();
  const std::size_t pairs = r.u16();
  Head head;
  head.stream = r.hash();
  head.credential = r.hash();
  head.epoch = r.u64();
  head.beat = r.u64();
  head.time_ns = r.u64();
  head.next_ms = r.u32();
  head.since = r.u64();
  head.last = r.u64();
  head.oldest = r.u64();
  head.batch = r.u64();
  head.header = r.hash();
  if (r.failure()) return refuse(*r.failure());
  if (magic != kMagic) return refuse(Reject::BadMagic);
  if (version != kVersion) return refuse(Reject::BadVersion);
  if (flags != 0) return refuse(Reject::BadFlags);
  if (pairs > kMaxHeadPairs) return refuse(Reject::TooLarge);
  for (std::size_t i = 0; i < pairs; ++i) {
    Head::Pair pair{std::string(r.short_string()), r.u64()};
    if (r.failure()) return refuse(*r.failure());
    if (!pair.prefix.empty() && !valid_topic(pair.prefix)) return refuse(Reject::BadTopic);
    if (pair.last <= head.since || pair.last > head.last) return refuse(Reject::BadField);
    head.pairs.push_back(std::move(pair));
  }
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (head.since > head.last || head.last == UINT64_MAX || head.oldest > head.last + 1 ||
      head.epoch == 0 || head.beat == 0)
    return refuse(Reject::BadField);
  return head;
}

Decoded<SealedHead> sealed_head(const ControlFrame& frame) noexcept {
  if (frame.payload.size() < kSealSize) return refuse(Reject::Truncated);
  const std::size_t size = frame.payload.size() - kSealSize;
  return SealedHead{frame.payload.substr(0, size), frame.payload.substr(size)};
}

Bytes encode_control(ControlKind kind, const Hash& stream, ByteView payload) {
  Bytes out;
  out.reserve(2 + Hash::kSize + payload.size());
  out += kControl;
  out += static_cast<char>(kind);
  out += stream.view();
  out += payload;
  return out;
}

Decoded<ControlFrame> decode_control(ByteView bytes) noexcept {
  if (bytes.size() > kMaxFrameSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  if (r.u8() != static_cast<std::uint8_t>(kControl)) return refuse(Reject::BadMagic);
  const char kind = static_cast<char>(r.u8());
  const Hash stream = r.hash();
  if (r.failure()) return refuse(*r.failure());
  if (kind != static_cast<char>(ControlKind::Credential) && kind != static_cast<char>(ControlKind::Head))
    return refuse(Reject::BadField);
  return ControlFrame{static_cast<ControlKind>(kind), stream, r.rest()};
}

}  // namespace mirrorbus::proto
