// Any request, to a publisher's serve socket.
#include "proto/limits.hpp"
#include "test/bus/peer/core_fixture.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static peer::test::TestPublisher* const publisher = [] {
    auto* const made = new peer::test::TestPublisher;  // lives as long as the process
    for (int epoch = 0; epoch < 3; ++epoch) {
      for (int i = 0; i < 5; ++i) made->publish(peer::test::at(epoch));
      made->start(peer::test::at(epoch + 0.5));
    }
    return made;
  }();
  const auto request = proto::decode_request(fuzz::view(data, size));
  if (!request) return 0;
  const auto answer = peer::StreamVerbs(publisher->id, publisher->journal).answer(*request);
  if (!answer) return 0;
  fuzz::require(answer->id == request->id, "an answer says whose it is");
  const auto heard = proto::decode_answer(proto::encode_answer(*answer));
  fuzz::require(heard.has_value(), "whoever asked can read the answer");
  if (request->verb != "replay" || heard->refused) return 0;
  const auto replay = proto::replay_answer(heard->fields);
  const auto asked = proto::replay_request(request->args);
  fuzz::require(replay && asked && replay->through <= asked->to, "no more is answered than asked");
  for (const proto::Bytes& part : heard->parts) {
    const auto row = proto::decode_row(part);
    const auto header = proto::decode_header(row->header());
    fuzz::require(header->last_seq() >= asked->from && header->first_seq <= asked->to,
                  "what is answered was asked for");
  }
  return 0;
}
