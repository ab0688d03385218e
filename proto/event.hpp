// One event, as it is hashed, sent and stored. See event.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <vector>

namespace mirrorbus::proto {

// Views into the bytes it was decoded from.
struct EventView {
  std::uint64_t seq = 0;
  std::uint64_t time_ns = 0;      // when it was published, since 1970
  std::uint8_t base_segments = 0;  // segments of prefix.env; back-pointers start below them
  std::uint8_t levels = 0;         // back-pointers: one per topic segment below the base
  std::uint8_t exact = 0;          // so many levels, from the first: what they point at is there
  ByteView deltas;                 // `levels` varints
  ByteView body;                   // msgpack, decoded on demand

  // No event of this stream whose topic lies under the first `depth` segments of this one has a seq
  // in (previous(depth), seq).
  std::uint64_t previous(std::size_t depth) const noexcept;
  // There is an event with that seq, and its topic lies under them.
  bool exact_at(std::size_t depth) const noexcept;
};

// What an event says of those before it: seq - previous, each >= 1, one per segment below the base.
struct BackPointers {
  std::vector<std::uint64_t> deltas;
  std::uint8_t exact = 0;
};

void append_event(Bytes& out, std::uint64_t seq, std::uint64_t time_ns, std::uint8_t base_segments,
                  const BackPointers& before, ByteView body);
// Does not look into the body.
Decoded<EventView> decode_event(ByteView bytes) noexcept;

// SHA-256(0x00 ‖ topic ‖ 0x00 ‖ event).
Hash event_leaf(ByteView topic, ByteView event) noexcept;

}  // namespace mirrorbus::proto
