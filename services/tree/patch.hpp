// zstd against a prefix both sides have: how a delta pack's frames are made and read.
//
// The only file that knows zstd. Encoders and decoders keep a context and belong to one thread.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <memory>

namespace mirrorbus::tree {

class PatchEncoder {
 public:
  PatchEncoder();
  ~PatchEncoder();
  PatchEncoder(PatchEncoder&&) noexcept;

  // One zstd frame with its content size. `prefix` and `data` are together at most kMaxPackSpan.
  proto::Bytes encode(proto::ByteView data, proto::ByteView prefix, int level);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

class PatchDecoder {
 public:
  PatchDecoder();
  ~PatchDecoder();
  PatchDecoder(PatchDecoder&&) noexcept;

  // Exactly `size` bytes, checked before they are allocated: SizeLie, else BadCompression. The caller
  // has bounded `size` and the prefix.
  proto::Decoded<proto::Bytes> decode(proto::ByteView stored, proto::ByteView prefix,
                                      std::uint64_t size);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace mirrorbus::tree
