// A batch's header.
#include "proto/batch.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto encode = [](const proto::BatchHeader& header) {
    proto::Bytes out;
    proto::append_header(out, header);
    return out;
  };
  fuzz::canonical(fuzz::view(data, size), proto::decode_header, encode);
  return 0;
}
