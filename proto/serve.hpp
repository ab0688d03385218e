// Requests and answers on the serve socket (and on a relay's submit socket). See serve.md.
//
// A request is one frame: a msgpack map {v, id, verb, …arguments}; for some verbs frames of raw bytes
// follow. An answer is one frame with a map
// {v, id, status, …fields}, then any number of frames of raw bytes.
#pragma once

#include "proto/bytes.hpp"
#include "proto/credential.hpp"
#include "proto/reject.hpp"
#include "proto/value.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mirrorbus::proto {

struct Request {
  std::uint64_t id = 0;  // the answer repeats it
  std::string verb;
  Value args{Map{}};  // the whole map
  std::vector<Bytes> parts{};  // the frames behind it, for the verbs that take any
};

struct Answer {
  std::uint64_t id = 0;
  std::optional<Reject> refused;  // status "ok" if empty
  std::uint32_t after_ms = 0;     // with Busy: when to ask again
  Value fields{Map{}};
  std::vector<Bytes> parts;
};

Bytes encode_request(const Request& request);  // without its parts
Decoded<Request> decode_request(ByteView bytes);
std::vector<Bytes> encode_answer(const Answer& answer);
Decoded<Answer> decode_answer(std::span<const Bytes> frames);
// The reason named by an answer's status; Unavailable for a name this version does not know.
Reject reject_named(std::string_view name) noexcept;

// Verb "replay": the rows of a stream that hold events of [from, to] under a prefix.
struct ReplayRequest {
  Hash stream;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::string prefix;           // whole segments; empty = all
  std::uint64_t max_bytes = 0;  // credit: about how much the asker takes in one answer
};
Map to_args(const ReplayRequest& request);
Decoded<ReplayRequest> replay_request(const Value& args);

struct ReplayAnswer {
  std::uint64_t through = 0;  // everything held of [from, through] is in the parts
  bool more = false;          // ask again from through + 1
  std::uint64_t oldest = 0;   // first seq still held; last + 1 if none is
  std::uint64_t last = 0;     // last seq held
};
Map to_fields(const ReplayAnswer& answer);
Decoded<ReplayAnswer> replay_answer(const Value& fields);

// Verb "submit" on a relay: one event, named by (sender, n) so that a repeat is the same event.
struct Submission {
  Bytes sender;  // 16 bytes, drawn by the sender
  std::uint64_t n = 0;
  std::string topic;
  Bytes body;  // a msgpack map
};
inline constexpr std::size_t kSenderSize = 16;
// (sender, n): what makes a submission the same one when it comes again.
struct SubmissionName {
  Bytes sender;
  std::uint64_t n = 0;
  auto operator<=>(const SubmissionName&) const = default;
};
Map to_args(const Submission& submission);
Decoded<Submission> submission(const Value& args);

}  // namespace mirrorbus::proto
