// A submission over HTTP: its content type on the first line, then the body; read in both forms
// whatever the line says.
#include "proto/http_submit.hpp"
#include "proto/limits.hpp"
#include "proto/topic.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;
using proto::HttpForm;

namespace {

void check(proto::ByteView body, HttpForm form) {
  const auto submission = proto::decode_http_submission(body, form);
  if (!submission) {
    const int status = proto::http_status(submission.error());
    fuzz::require(status == 400 || status == 413, "what cannot be read is the client's fault");
    return;
  }
  fuzz::require(proto::valid_topic(submission->topic), "a topic is one");
  fuzz::require(submission->body.size() <= proto::kMaxMapEntries, "a body is within the limits");
  fuzz::require(!submission->name || submission->name->sender.size() == proto::kSenderSize,
                "a sender has 16 bytes");
  // As bytes: 2.0 is packed as 2, and no NaN is equal to itself.
  const proto::Bytes again = proto::encode_http_submission(*submission, form);
  const auto second = proto::decode_http_submission(again, form);
  fuzz::require(second && proto::encode_http_submission(*second, form) == again,
                "what was written again is the same");
  fuzz::require(proto::unpack(proto::pack(submission->body)).has_value(),
                "every body can be published");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView text = fuzz::view(data, size);
  const proto::ByteView type = text.substr(0, text.find('\n'));
  const proto::ByteView body = text.substr(std::min(text.size(), type.size() + 1));
  (void)proto::http_form(type);
  check(body, HttpForm::Json);
  check(body, HttpForm::Msgpack);
  if (const auto name = proto::name_from_key("client", body))
    fuzz::require(name->sender.size() == proto::kSenderSize, "a key names like a sender");
  return 0;
}
