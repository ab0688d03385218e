// What a tree hash is of.
#include "proto/tree_version.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::canonical(fuzz::view(data, size), proto::decode_tree_root, proto::encode_tree_root);
  return 0;
}
