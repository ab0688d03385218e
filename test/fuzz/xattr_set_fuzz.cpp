// A set of extended attributes.
#include "proto/xattr_set.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::canonical(fuzz::view(data, size), proto::decode_xattr_set, proto::encode_xattr_set);
  return 0;
}
