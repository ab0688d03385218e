// The head: a publisher's signed word, every second, on how far it has got. See head.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace mirrorbus::proto {

struct Head {
  Hash stream;
  Hash credential;  // whose session key signed
  std::uint64_t epoch = 0;
  std::uint64_t beat = 0;  // grows by one each
  std::uint64_t time_ns = 0;
  std::uint32_t next_ms = 0;  // the next beat is promised within this
  std::uint64_t since = 0;
  std::uint64_t last = 0;    // last durable seq
  std::uint64_t oldest = 0;  // first seq still in the journal; last + 1 if none is
  std::uint64_t batch = 0;   // number of the last batch of this epoch; 0 = none yet
  Hash header;               // its hash, or the pinned hash

  // Every event in (since, last] lies under one of these prefixes, and `last` of a pair is the seq of
  // the last event under it.
  struct Pair {
    std::string prefix;
    std::uint64_t last = 0;
    bool operator==(const Pair&) const = default;
  };
  std::vector<Pair> pairs;

  bool operator==(const Head&) const = default;
};

Bytes encode_head(const Head& head);  // what the session key signs
Decoded<Head> decode_head(ByteView bytes);

// Control frames on PUB: 0x01, a letter, the stream's id, a payload. No topic begins with 0x01.
inline constexpr char kControl = 0x01;
enum class ControlKind : char { Credential = 'C', Head = 'H' };

struct ControlFrame {
  ControlKind kind;
  Hash stream;
  ByteView payload;  // Credential: a sealed credential; Head: the head and its 64-byte signature
};
// A head and the seal over its bytes, of such a frame.
struct SealedHead {
  ByteView bytes;
  ByteView seal;
};
Decoded<SealedHead> sealed_head(const ControlFrame& frame) noexcept;
Bytes encode_control(ControlKind kind, const Hash& stream, ByteView payload);
Decoded<ControlFrame> decode_control(ByteView bytes) noexcept;

}  // namespace mirrorbus::proto
