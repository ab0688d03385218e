// A whole batch, from a journal or a replay.
#include "proto/batch.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  const auto row = proto::decode_row(bytes);
  if (!row) return 0;
  proto::Bytes again(row->sealed_header);
  for (const auto& [topic, event] : row->items) proto::append_row_item(again, topic, event);
  fuzz::require(again == bytes, "what was encoded again is the same bytes");
  (void)proto::row_root(*row);
  return 0;
}
