// Document and signature together.
#include "proto/credential.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::canonical(fuzz::view(data, size), proto::decode_sealed, proto::encode_sealed);
  return 0;
}
