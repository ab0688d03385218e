// What comes from a PUB socket: frame, header, event and the path to the signed root.
#include "proto/batch.hpp"
#include "proto/event.hpp"
#include "proto/merkle.hpp"
#include "proto/topic.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

namespace {

proto::Bytes encode(const proto::EventFrame& frame) {
  proto::Bytes out;
  proto::append_event_frame(out, frame);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  fuzz::canonical(bytes, proto::decode_event_frame, encode);
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame) return 0;
  const auto header = proto::decode_header(frame->header());
  const auto event = proto::decode_event(frame->event);
  if (!header || !event || event->seq < header->first_seq || event->seq > header->last_seq())
    return 0;
  proto::MerkleVerifier merkle(header->root, header->count);
  const std::size_t index = event->seq - header->first_seq;
  const proto::Hash leaf = proto::event_leaf(frame->topic, frame->event);
  const bool proven = merkle.verify(leaf, index, frame->path);
  fuzz::require(merkle.verify(leaf, index, frame->path) == proven, "a verdict stands");
  return 0;
}
