// Verb "forward" on a relay's serve socket: a publisher that can only connect out hands over its
// sealed history. See serve.md.
#pragma once

#include "proto/serve.hpp"

namespace mirrorbus::proto {

inline constexpr std::size_t kMaxForwardRows = 256;  // in one request

struct ForwardRequest {
  enum class Kind { Ask, Credential, Rows, Head };
  Kind kind = Kind::Ask;
  Hash stream;
  std::string token;  // empty: none is shown
  bool operator==(const ForwardRequest&) const = default;
};
std::string_view to_string(ForwardRequest::Kind kind) noexcept;  // as "kind" names it
Map to_args(const ForwardRequest& request);
// Also checks that the request has as many parts as its kind has, none beyond its size; what they
// say is for the caller to decode.
Decoded<ForwardRequest> forward_request(const Request& request);

// How far the relay is with the stream: its last durable row. All zero: it has none.
struct ForwardAnswer {
  std::uint64_t epoch = 0;
  std::uint64_t through = 0;  // last seq
  Hash header;                // the hash of that row's header
  bool operator==(const ForwardAnswer&) const = default;
};
Map to_fields(const ForwardAnswer& answer);
Decoded<ForwardAnswer> forward_answer(const Value& fields);

}  // namespace mirrorbus::proto
