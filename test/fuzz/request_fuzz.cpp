// A request on the serve socket, and the arguments of each verb.
#include "proto/serve.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto request = proto::decode_request(fuzz::view(data, size));
  if (!request) return 0;
  proto::Map rest = *request->args.as_map();
  std::erase_if(rest, [](const auto& entry) {
    return entry.first == "v" || entry.first == "id" || entry.first == "verb";
  });
  const auto again =
      proto::decode_request(proto::encode_request({request->id, request->verb, std::move(rest)}));
  fuzz::require(again && again->id == request->id && again->verb == request->verb,
                "a request encoded again is the same request");
  if (const auto replay = proto::replay_request(request->args)) {
    const auto second = proto::replay_request(proto::to_args(*replay));
    fuzz::require(
        second && proto::pack(proto::to_args(*second)) == proto::pack(proto::to_args(*replay)),
        "a replay request encoded again is the same");
  }
  if (const auto one = proto::submission(request->args)) {
    const auto second = proto::submission(proto::to_args(*one));
    fuzz::require(second && second->topic == one->topic && second->body == one->body &&
                      second->sender == one->sender && second->n == one->n,
                  "a submission encoded again is the same");
  }
  return 0;
}
