// A request to hand something over, as the frames of one message: sizes, then what they hold. What
// may be taken is decoded as far as a relay does before it asks whether it is signed.
#include "proto/batch.hpp"
#include "proto/credential.hpp"
#include "proto/forward.hpp"
#include "proto/head.hpp"
#include "proto/limits.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;
using Kind = proto::ForwardRequest::Kind;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices choices(fuzz::view(data, size));
  auto request = proto::decode_request(choices.bytes());
  if (!request) return 0;
  while (!choices.done()) request->parts.emplace_back(choices.long_bytes());
  const auto forward = proto::forward_request(*request);
  if (!forward) return 0;
  std::size_t total = 0;
  for (const proto::Bytes& part : request->parts) total += part.size();
  fuzz::require(request->parts.size() <= proto::kMaxForwardRows && total <= proto::kMaxAnswerBytes,
                "what is taken is bounded");
  fuzz::require((forward->kind == Kind::Ask) == request->parts.empty(),
                "all but a question has parts");
  const proto::Request again{request->id, "forward", proto::to_args(*forward), request->parts};
  const auto second = proto::forward_request(again);
  fuzz::require(second && *second == *forward, "a request encoded again is the same");
  for (const proto::Bytes& part : request->parts) {
    if (forward->kind == Kind::Credential) {
      if (const auto sealed = proto::decode_sealed(part))
        (void)proto::decode_credential(sealed->document);
    } else if (forward->kind == Kind::Rows) {
      if (const auto row = proto::decode_row(part)) (void)proto::row_root(*row);
    } else if (forward->kind == Kind::Head) {
      const auto sealed =
          proto::sealed_head({proto::ControlKind::Head, forward->stream, part});
      if (sealed) (void)proto::decode_head(sealed->bytes);
    }
  }
  if (const auto answer = proto::forward_answer(request->args)) {
    const auto back = proto::forward_answer(proto::Value(proto::to_fields(*answer)));
    fuzz::require(back && *back == *answer, "an answer encoded again is the same");
  }
  return 0;
}
