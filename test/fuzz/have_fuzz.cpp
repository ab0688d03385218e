// What a mirror says it has, and where it is told to pull from.
#include "proto/serve.hpp"
#include "proto/tree_have.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto map = proto::unpack(fuzz::view(data, size));
  if (!map) return 0;
  if (const auto request = proto::have_request(*map)) {
    fuzz::require(request->run.size() == proto::kRunSize &&
                      request->content.size() <= proto::kMaxUrlSize,
                  "what is taken is bounded");
    const auto back = proto::have_request(proto::Value(proto::to_args(*request)));
    fuzz::require(back && *back == *request, "a request encoded again is the same");
  }
  if (const auto answer = proto::have_answer(*map)) {
    fuzz::require(answer->sources.size() <= proto::kMaxReferred, "what is taken is bounded");
    const auto back = proto::have_answer(proto::Value(proto::to_fields(*answer)));
    fuzz::require(back && *back == *answer, "an answer encoded again is the same");
  }
  return 0;
}
