// The bodies of a mirror's start, complete and fail events.
#include "proto/tree_sync.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

namespace {

template <class Message>
void check(proto::ByteView bytes, proto::Decoded<Message> (*decode)(const proto::Value&)) {
  const auto unpack = [decode](proto::ByteView from) -> proto::Decoded<Message> {
    const auto value = proto::unpack(from);
    if (!value) return proto::refuse(value.error());
    return decode(*value);
  };
  fuzz::round_trip(bytes, unpack,
                   [](const Message& message) { return proto::encode_sync(message); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  check(bytes, proto::decode_sync_start);
  check(bytes, proto::decode_sync_complete);
  check(bytes, proto::decode_sync_fail);
  return 0;
}
