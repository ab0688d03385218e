#include "proto/event.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "proto/wire.hpp"

#include <array>

namespace mirrorbus::proto {
namespace {
constexpr std::uint8_t kEventVersion = 1;
}

std::uint64_t EventView::previous(std::size_t depth) const noexcept {
  if (depth <= base_segments || levels == 0) return seq - 1;
  std::size_t skip = std::min<std::size_t>(depth - base_segments, levels) - 1;
  Reader r(deltas);
  while (skip-- > 0) r.varint();
  return seq - r.varint();
}

bool EventView::exact_at(std::size_t depth) const noexcept {
  return depth <= base_segments || levels == 0 ||
         std::min<std::size_t>(depth - base_segments, levels) <= exact;
}

void append_event(Bytes& out, std::uint64_t seq, std::uint64_t time_ns, std::uint8_t base_segments,
                  const BackPointers& before, ByteView body) {
  Writer w(out);
  w.u8(kEventVersion).u8(before.exact).u64(seq).u64(time_ns).u8(base_segments);
  w.u8(static_cast<std::uint8_t>(before.deltas.size()));
  for (const std::uint64_t delta : before.deltas) w.varint(delta);
  w.raw(body);
}

Decoded<EventView> decode_event(ByteView bytes) noexcept {
  if (bytes.size() > kMaxEventSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  EventView event;
  const std::uint8_t version = r.u8();
  event.exact = r.u8();
  event.seq = r.u64();
  event.time_ns = r.u64();
  event.base_segments = r.u8();
  event.levels = r.u8();
  if (r.failure()) return refuse(*r.failure());
  if (version != kEventVersion) return refuse(Reject::BadVersion);
  if (event.seq == 0) return refuse(Reject::BadField);
  if (event.base_segments + std::size_t{event.levels} > kMaxTopicSegments)
    return refuse(Reject::TooLarge);
  if (event.exact > event.levels) return refuse(Reject::BadField);
  const ByteView tail = r.rest();
  for (std::size_t i = 0; i < event.levels; ++i) {
    const std::uint64_t delta = r.varint();
    if (r.failure()) return refuse(*r.failure());
    if (delta == 0 || delta > event.seq) return refuse(Reject::BadField);
  }
  event.deltas = tail.substr(0, tail.size() - r.rest().size());
  event.body = r.rest();
  return event;
}

Hash event_leaf(ByteView topic, ByteView event) noexcept {
  const char zero = 0;
  // Most events are small: one piece is hashed in less time than four.
  std::array<char, 1024> whole;
  if (topic.size() + event.size() + 2 <= whole.size()) {
    char* out = whole.data();
    *out++ = zero;
    out += topic.copy(out, topic.size());
    *out++ = zero;
    out += event.copy(out, event.size());
    return sha256({whole.data(), out});
  }
  return Sha256().update({&zero, 1}).update(topic).update({&zero, 1}).update(event).finish();
}

}  // namespace mirrorbus::proto
