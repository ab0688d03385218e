// The body of a tree's update event.
#include "proto/tree_update.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::round_trip(fuzz::view(data, size), proto::decode_update, proto::encode_update);
  return 0;
}
