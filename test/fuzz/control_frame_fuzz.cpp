// A control frame on PUB, and what it carries.
#include "proto/head.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto encode = [](const proto::ControlFrame& frame) {
    return proto::encode_control(frame.kind, frame.stream, frame.payload);
  };
  fuzz::canonical(fuzz::view(data, size), proto::decode_control, encode);
  return 0;
}
