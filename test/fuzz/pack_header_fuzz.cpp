// The header of a delta pack.
#include "proto/pack.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::canonical(fuzz::view(data, size), proto::decode_pack_header, proto::encode_pack_header);
  return 0;
}
