// An answer on the serve socket: frames, each behind two bytes of length.
#include "proto/serve.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  std::vector<proto::Bytes> frames;
  while (!in.done()) frames.emplace_back(in.long_bytes());
  auto answer = proto::decode_answer(frames);
  if (!answer) return 0;
  (void)proto::replay_answer(answer->fields);
  proto::Map rest = *answer->fields.as_map();
  std::erase_if(rest, [](const auto& entry) {
    return entry.first == "v" || entry.first == "id" || entry.first == "status" ||
           entry.first == "after_ms";
  });
  answer->fields = std::move(rest);
  const auto again = proto::decode_answer(proto::encode_answer(*answer));
  fuzz::require(again && again->id == answer->id && again->refused == answer->refused &&
                    again->parts == answer->parts,
                "an answer encoded again is the same answer");
  return 0;
}
