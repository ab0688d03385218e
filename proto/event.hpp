// One event, as it is hashed, sent and stored. See event.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <span>

namespace mirrorbus::proto {

// Views into the bytes it was decoded from.
struct EventView {
  std::uint64_t seq = 0;
  std::uint64_t time_ns = 0;      // when it was published, since 1970
  std::uint8_t base_segments = 0;  // segments of prefix.env; back-pointers start below them
  std::uint8_t levels = 0;         // back-pointers: one per topic segment below the base
  ByteView deltas;                 // `levels` varints
  ByteView body;                   // msgpack, decoded on demand

  // No event of this stream whose topic lies under the first `depth` segments of this one has a seq
  // in (previous(depth), seq).
  std::uint64_t previous(std::size_t depth) const noexcept;
};

// `deltas` are seq - previous, one per segment below the base, each >= 1.
void append_event(Bytes& out, std::uint64_t seq, std::uint64_t time_ns, std::uint8_t base_segments,
                  std::span<const std::uint64_t> deltas, ByteView body);
// Does not look into the body.
Decoded<EventView> decode_event(ByteView bytes) noexcept;

// SHA-256(0x00 ‖ topic ‖ 0x00 ‖ event).
Hash event_leaf(ByteView topic, ByteView event) noexcept;

}  // namespace mirrorbus::proto
