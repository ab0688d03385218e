// A signed batch: its header, the frame that carries one of its events, and the row that keeps all of
// them. See batch.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/limits.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <vector>

namespace mirrorbus::proto {

struct BatchHeader {
  Hash credential;  // id of the credential whose session key signed
  std::uint64_t epoch = 0;
  std::uint64_t number = 0;  // from 1 in each epoch, gapless
  std::uint64_t first_seq = 0;
  std::uint16_t count = 0;    // 1..kMaxBatchEvents
  std::uint64_t time_ns = 0;  // when it was closed
  Hash root;
  Hash previous;  // hash of the header before; for number 1 the credential's pinned hash

  std::uint64_t last_seq() const noexcept { return first_seq + count - 1; }
};

inline constexpr std::size_t kHeaderSize = 148;
inline constexpr std::size_t kSealSize = 64;  // Ed25519 (RFC 8032) over the header's bytes
inline constexpr std::size_t kSealedHeaderSize = kHeaderSize + kSealSize;

void append_header(Bytes& out, const BatchHeader& header);
Decoded<BatchHeader> decode_header(ByteView bytes);
// What the next header's `previous` is: SHA-256 of the header's bytes, without the signature.
Hash header_hash(ByteView header) noexcept;

// topic ‖ 0x00 ‖ header ‖ signature ‖ path length ‖ path ‖ event, as views.
struct EventFrame {
  ByteView topic;
  ByteView sealed_header;  // kSealedHeaderSize
  ByteView path;
  ByteView event;

  ByteView header() const noexcept { return sealed_header.substr(0, kHeaderSize); }
  ByteView seal() const noexcept { return sealed_header.substr(kHeaderSize); }
};

void append_event_frame(Bytes& out, const EventFrame& frame);
// The same into memory of the frame's size.
std::size_t event_frame_size(const EventFrame& frame) noexcept;
void write_event_frame(char* out, const EventFrame& frame) noexcept;
Decoded<EventFrame> decode_event_frame(ByteView bytes) noexcept;

// A whole batch as journals keep it and replay answers carry it: no paths, they follow from the leaves.
struct BatchRow {
  struct Item {
    ByteView topic;
    ByteView event;
  };
  ByteView sealed_header;
  std::vector<Item> items;

  ByteView header() const noexcept { return sealed_header.substr(0, kHeaderSize); }
  ByteView seal() const noexcept { return sealed_header.substr(kHeaderSize); }
};

// Where an item's topic and event begin in the row.
struct RowItemAt {
  std::uint32_t topic = 0;
  std::uint32_t event = 0;
};
RowItemAt append_row_item(Bytes& out, ByteView topic, ByteView event);
// The items agree in number with the header; roots and signatures are the caller's to check.
Decoded<BatchRow> decode_row(ByteView bytes);
// The Merkle root over the items.
Hash row_root(const BatchRow& row);
// It can be read and has the root that its header says. What a disk has changed has not.
bool is_sound_row(ByteView bytes);

}  // namespace mirrorbus::proto
