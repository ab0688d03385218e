// A publisher's head.
#include "proto/head.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::canonical(fuzz::view(data, size), proto::decode_head, proto::encode_head);
  return 0;
}
