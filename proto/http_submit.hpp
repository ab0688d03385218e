// A submission to a relay over HTTP: the body of the POST, and what the answer's status means. See
// http_submit.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"
#include "proto/serve.hpp"
#include "proto/value.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace mirrorbus::proto {

enum class HttpForm { Json, Msgpack };
// From a Content-Type, its parameters aside; nothing for another type.
std::optional<HttpForm> http_form(std::string_view content_type);

struct HttpSubmission {
  std::string topic;
  Map body;
  std::optional<SubmissionName> name;  // nothing: this one is the same as no other
  bool operator==(const HttpSubmission&) const = default;
};

// Refuses keys that it does not know: a misspelt one would silently
// make every repeat an event of its own.
Decoded<HttpSubmission> decode_http_submission(ByteView bytes, HttpForm form);
Bytes encode_http_submission(const HttpSubmission& submission, HttpForm form);

// The name that an Idempotency-Key stands for. `client` is who shows it: keys of different clients
// never meet. BadField: empty, or longer than kMaxIdempotencyKey.
inline constexpr std::size_t kMaxIdempotencyKey = 255;
Decoded<SubmissionName> name_from_key(std::string_view client, std::string_view key);

// The status of an answer that refuses.
int http_status(Reject why) noexcept;

}  // namespace mirrorbus::proto
