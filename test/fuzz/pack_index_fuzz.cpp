// The index of a delta pack.
#include "proto/pack.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  fuzz::canonical(bytes, proto::decode_pack_index, proto::encode_pack_index);
  if (const auto index = proto::decode_pack_index(bytes)) (void)index->frames_size();
  return 0;
}
