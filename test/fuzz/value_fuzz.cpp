// msgpack, and the same as JSON.
#include "proto/value.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // As bytes: NaN is a value too, and is not equal to itself.
  const auto value = proto::unpack(fuzz::view(data, size));
  if (!value) return 0;
  const proto::Bytes packed = proto::pack(*value);
  const auto again = proto::unpack(packed);
  fuzz::require(again.has_value(), "what was packed unpacks");
  fuzz::require(proto::pack(*again) == packed, "what was packed again is the same bytes");
  fuzz::require(packed.size() <= 3 * size, "shortest forms are not longer");
  fuzz::require(proto::from_json(proto::to_json(*value)).has_value(),
                "what is said in JSON is JSON");
  return 0;
}
