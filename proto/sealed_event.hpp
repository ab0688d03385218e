// One event by itself, as it is handed on: read from its frame, with the header of its batch, and
// whether it was in that batch. Who sealed the header is for the caller to judge. See batch.md.
#pragma once

#include "proto/batch.hpp"
#include "proto/event.hpp"

namespace mirrorbus::proto {

struct SealedEvent {
  EventFrame frame;
  BatchHeader header;
  EventView event;
};
// Its views lead into `frame`.
Decoded<SealedEvent> decode_sealed_event(ByteView frame);
// By number and by path: BadIndex, BadPath.
Decoded<void> check_in_batch(const SealedEvent& sealed);

}  // namespace mirrorbus::proto
