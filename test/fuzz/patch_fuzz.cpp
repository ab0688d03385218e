// A frame of a delta pack: a prefix, a size, and what is to be zstd.
#include "proto/limits.hpp"
#include "services/tree/patch.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static tree::PatchDecoder decoder;
  static tree::PatchEncoder encoder;
  fuzz::Choices in(fuzz::view(data, size));
  const proto::ByteView prefix = in.bytes();
  const std::uint64_t expected = in.below(65536);
  const proto::ByteView stored = in.rest();
  if (const auto raw = decoder.decode(stored, prefix, expected))
    fuzz::require(raw->size() == expected, "as much comes as was said");
  // Any bytes at all survive being a patch.
  const auto back = decoder.decode(encoder.encode(stored, prefix, 1), prefix, stored.size());
  fuzz::require(back && *back == stored, "what was encoded decodes");
  return 0;
}
