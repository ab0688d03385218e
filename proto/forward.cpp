#include "proto/forward.hpp"

#include "proto/limits.hpp"

#include <algorithm>

namespace mirrorbus::proto {
namespace {

using Kind = ForwardRequest::Kind;

struct Bounds {
  std::size_t least, most;  // parts
  std::size_t part_bytes;   // of each
};

Bounds bounds(Kind kind) {
  switch (kind) {
    case Kind::Ask:
      return {0, 0, 0};
    case Kind::Credential:
      return {1, 1, kMaxCredentialSize};
    case Kind::Rows:
      return {1, kMaxForwardRows, kMaxRowSize};
    case Kind::Head:
      return {1, 1, kMaxFrameSize};
  }
  return {0, 0, 0};
}

std::optional<Kind> kind_named(std::string_view name) {
  for (const Kind kind : {Kind::Ask, Kind::Credential, Kind::Rows, Kind::Head})
    if (name == to_string(kind)) return kind;
  return std::nullopt;
}

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::Ask:
      return "ask";
    case Kind::Credential:
      return "credential";
    case Kind::Rows:
      return "rows";
    case Kind::Head:
      return "head";
  }
  return "unknown";
}

Map to_args(const ForwardRequest& r) {
  Map args{{"stream", r.stream}, {"kind", to_string(r.kind)}};
  if (!r.token.empty()) args.emplace_back("token", r.token);
  return args;
}

Decoded<ForwardRequest> forward_request(const Request& request) {
  const auto stream = field<Hash>(request.args, "stream");
  if (!stream) return refuse(stream.error());
  const auto name = field<std::string>(request.args, "kind");
  if (!name) return refuse(name.error());
  const auto kind = kind_named(*name);
  if (!kind) return refuse(Reject::BadField);
  ForwardRequest forward{*kind, *stream, ""};
  if (const Value* token = request.args.find("token")) {
    if (!token->as_text()) return refuse(Reject::WrongType);
    forward.token = *token->as_text();
  }
  const auto [least, most, part_bytes] = bounds(*kind);
  if (request.parts.size() < least) return refuse(Reject::Truncated);
  if (request.parts.size() > most)
    return refuse(least == 0 ? Reject::TrailingBytes : Reject::TooLarge);
  std::size_t total = 0;
  for (const Bytes& part : request.parts) {
    if (part.size() > part_bytes) return refuse(Reject::TooLarge);
    total += part.size();
  }
  if (total > kMaxAnswerBytes) return refuse(Reject::TooLarge);
  return forward;
}

Map to_fields(const ForwardAnswer& a) {
  return {{"epoch", a.epoch}, {"through", a.through}, {"header", a.header}};
}

Decoded<ForwardAnswer> forward_answer(const Value& fields) {
  const auto epoch = field<std::uint64_t>(fields, "epoch");
  const auto through = field<std::uint64_t>(fields, "through");
  const auto header = field<Hash>(fields, "header");
  for (const auto* number : {&epoch, &through})
    if (!*number) return refuse(number->error());
  if (!header) return refuse(header.error());
  return ForwardAnswer{*epoch, *through, *header};
}

}  // namespace mirrorbus::proto
