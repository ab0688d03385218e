#include "proto/batch.hpp"

#include "proto/event.hpp"
#include "proto/merkle.hpp"
#include "proto/sha256.hpp"
#include "proto/topic.hpp"
#include "proto/wire.hpp"

#include <cstring>

namespace mirrorbus::proto {
namespace {
constexpr ByteView kMagic("mirrorbus-batch\0", 16);
constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kSuite = 1;  // Ed25519 and SHA-256
}  // namespace

void append_header(Bytes& out, const BatchHeader& header) {
  Writer(out)
      .raw(kMagic)
      .u8(kVersion)
      .u8(kSuite)
      .u16(header.count)
      .hash(header.credential)
      .u64(header.epoch)
      .u64(header.number)
      .u64(header.first_seq)
      .u64(header.time_ns)
      .hash(header.root)
      .hash(header.previous);
}

Decoded<BatchHeader> decode_header(ByteView bytes) {
  Reader r(bytes);
  const ByteView magic = r.raw(kMagic.size());
  const std::uint8_t version = r.u8(), suite = r.u8();
  BatchHeader header;
  header.count = r.u16();
  header.credential = r.hash();
  header.epoch = r.u64();
  header.number = r.u64();
  header.first_seq = r.u64();
  header.time_ns = r.u64();
  header.root = r.hash();
  header.previous = r.hash();
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (magic != kMagic) return refuse(Reject::BadMagic);
  if (version != kVersion || suite != kSuite) return refuse(Reject::BadVersion);
  if (header.count == 0 || header.count > kMaxBatchEvents) return refuse(Reject::BadCount);
  if (header.epoch == 0 || header.number == 0 || header.first_seq == 0 ||
      header.first_seq > UINT64_MAX - header.count)
    return refuse(Reject::BadField);
  return header;
}

Hash header_hash(ByteView header) noexcept { return sha256(header); }

std::size_t event_frame_size(const EventFrame& frame) noexcept {
  return frame.topic.size() + 1 + frame.sealed_header.size() + 1 + frame.path.size() + frame.event.size();
}

void write_event_frame(char* out, const EventFrame& frame) noexcept {
  const auto put = [&out](ByteView bytes) {
    // memcpy may not be given nothing from nowhere; std::ranges::copy goes byte by byte (g++ 12).
    if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
    out += bytes.size();
  };
  put(frame.topic);
  *out++ = 0;
  put(frame.sealed_header);
  *out++ = static_cast<char>(frame.path.size() / Hash::kSize);
  put(frame.path);
  put(frame.event);
}

void append_event_frame(Bytes& out, const EventFrame& frame) {
  const std::size_t before = out.size();
  out.resize(before + event_frame_size(frame));
  write_event_frame(out.data() + before, frame);
}

Decoded<EventFrame> decode_event_frame(ByteView bytes) noexcept {
  if (bytes.size() > kMaxFrameSize) return refuse(Reject::TooLarge);
  const std::size_t end = bytes.substr(0, kMaxTopicSize + 1).find('\0');
  if (end == ByteView::npos) return refuse(Reject::BadTopic);
  EventFrame frame;
  frame.topic = bytes.substr(0, end);
  Reader r(bytes.substr(end + 1));
  frame.sealed_header = r.raw(kSealedHeaderSize);
  const std::size_t nodes = r.u8();
  frame.path = r.raw(nodes * Hash::kSize);
  frame.event = r.rest();
  if (r.failure()) return refuse(*r.failure());
  if (nodes > kMaxPathNodes) return refuse(Reject::TooLarge);
  if (frame.event.empty()) return refuse(Reject::Truncated);
  if (frame.event.size() > kMaxEventSize) return refuse(Reject::TooLarge);
  return frame;
}

RowItemAt append_row_item(Bytes& out, ByteView topic, ByteView event) {
  Writer(out).short_string(topic).u32(static_cast<std::uint32_t>(event.size())).raw(event);
  const auto end = static_cast<std::uint32_t>(out.size());
  const auto event_at = end - static_cast<std::uint32_t>(event.size());
  return {event_at - 4 - static_cast<std::uint32_t>(topic.size()), event_at};
}

Decoded<BatchRow> decode_row(ByteView bytes) {
  if (bytes.size() > kMaxRowSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  BatchRow row;
  row.sealed_header = r.raw(kSealedHeaderSize);
  if (r.failure()) return refuse(*r.failure());
  const auto header = decode_header(row.header());
  if (!header) return refuse(header.error());
  row.items.reserve(header->count);
  for (std::size_t i = 0; i < header->count; ++i) {
    BatchRow::Item item;
    item.topic = r.short_string();
    const std::uint32_t size = r.u32();
    if (size > kMaxEventSize) return refuse(Reject::TooLarge);
    item.event = r.raw(size);
    if (r.failure()) return refuse(*r.failure());
    row.items.push_back(item);
  }
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  return row;
}

Hash row_root(const BatchRow& row) {
  std::vector<Hash> leaves;
  leaves.reserve(row.items.size());
  for (const BatchRow::Item& item : row.items) leaves.push_back(event_leaf(item.topic, item.event));
  return MerkleTree(std::move(leaves)).root();
}

bool is_sound_row(ByteView bytes) {
  const auto row = decode_row(bytes);
  if (!row) return false;
  const auto header = decode_header(row->header());
  return header && row_root(*row) == header->root;
}

}  // namespace mirrorbus::proto
