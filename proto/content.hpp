// Streams of contents over HTTP: the answers to POST /objects and POST /nodes. See content.md.
//
// Request: up to kMaxContentBatch hashes of 32 bytes. Answer: for each hash, in any order, a record
//   hash (32) ‖ status (1) ‖ size (8) ‖ content      status 0: held, 1: gone (size 0)
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace mirrorbus::proto {

inline constexpr std::size_t kMaxContentBatch = 4096;
inline constexpr std::size_t kContentHeaderSize = Hash::kSize + 1 + 8;

Bytes encode_content_request(const std::vector<Hash>& hashes);
Decoded<std::vector<Hash>> decode_content_request(ByteView body);

void append_content_header(Bytes& out, const Hash& hash, std::uint64_t size);
void append_content_gone(Bytes& out, const Hash& hash);

// Takes an answer as it comes in pieces of any size.
class ContentParser {
 public:
  struct Events {
    std::function<void(const Hash& hash, std::uint64_t size)> on_begin;
    std::function<void(ByteView bytes)> on_bytes;
    std::function<void()> on_end;
    std::function<void(const Hash& hash)> on_gone;
  };
  explicit ContentParser(Events events) : events_(std::move(events)) {}

  // The reason if what came is not such a stream; then nothing more is taken.
  std::optional<Reject> feed(ByteView bytes);
  // The stream may end here.
  bool at_boundary() const { return header_.empty() && left_ == 0; }

 private:
  Events events_;
  Bytes header_;
  std::uint64_t left_ = 0;  // of the content that is coming in
};

}  // namespace mirrorbus::proto
