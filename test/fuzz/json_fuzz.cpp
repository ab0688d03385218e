// JSON, and the same as msgpack.
#include "proto/limits.hpp"
#include "proto/value.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto value = proto::from_json(fuzz::view(data, size));
  if (!value) return 0;
  const proto::Bytes packed = proto::pack(*value);
  const auto unpacked = proto::unpack(packed);
  // As bytes: 2.0 is packed as 2.
  fuzz::require(unpacked && proto::pack(*unpacked) == packed, "JSON as msgpack is the same value");
  const std::string text = proto::to_json(*value);
  const auto again = proto::from_json(text);
  fuzz::require(again && proto::to_json(*again) == text, "what was written again is the same text");
  return 0;
}
