// One event, and every back-pointer in it.
#include "proto/event.hpp"
#include "proto/limits.hpp"
#include "proto/wire.hpp"
#include "test/fuzz/fuzz.hpp"

#include <vector>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  const auto event = proto::decode_event(bytes);
  if (!event) return 0;
  proto::BackPointers before{{}, event->exact};
  for (proto::Reader r(event->deltas); !r.at_end();) before.deltas.push_back(r.varint());
  proto::Bytes again;
  proto::append_event(again, event->seq, event->time_ns, event->base_segments, before, event->body);
  fuzz::require(again == bytes, "what was encoded again is the same bytes");
  for (std::size_t depth = 0; depth <= proto::kMaxTopicSegments + 1; ++depth)
    fuzz::require(event->previous(depth) < event->seq, "what came before has a lower number");
  return 0;
}
