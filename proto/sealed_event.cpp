#include "proto/sealed_event.hpp"

#include "proto/merkle.hpp"

namespace mirrorbus::proto {

Decoded<SealedEvent> decode_sealed_event(ByteView bytes) {
  const auto frame = decode_event_frame(bytes);
  if (!frame) return refuse(frame.error());
  const auto header = decode_header(frame->header());
  if (!header) return refuse(header.error());
  const auto event = decode_event(frame->event);
  if (!event) return refuse(event.error());
  return SealedEvent{*frame, *header, *event};
}

Decoded<void> check_in_batch(const SealedEvent& sealed) {
  const auto& [frame, header, event] = sealed;
  if (event.seq < header.first_seq || event.seq > header.last_seq())
    return refuse(Reject::BadIndex);
  MerkleVerifier merkle(header.root, header.count);
  if (!merkle.verify(event_leaf(frame.topic, frame.event), event.seq - header.first_seq,
                     frame.path))
    return refuse(Reject::BadPath);
  return {};
}

}  // namespace mirrorbus::proto
