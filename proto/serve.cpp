#include "proto/serve.hpp"

#include "proto/limits.hpp"
#include "proto/topic.hpp"

namespace mirrorbus::proto {
namespace {

constexpr std::uint64_t kVersion = 1;

void merge(Map& into, const Value& more) {
  if (const Map* map = more.as_map()) into.insert(into.end(), map->begin(), map->end());
}

Decoded<std::uint64_t> versioned_id(const Value& map) {
  if (!map.as_map()) return refuse(Reject::WrongType);
  const auto version = field<std::uint64_t>(map, "v");
  if (!version) return refuse(version.error());
  if (*version != kVersion) return refuse(Reject::BadVersion);
  return field<std::uint64_t>(map, "id");
}

}  // namespace

Reject reject_named(std::string_view name) noexcept {
#define MIRRORBUS_REJECT_NAMED(id, text) \
  if (name == text) return Reject::id;
  MIRRORBUS_REJECTS(MIRRORBUS_REJECT_NAMED)
#undef MIRRORBUS_REJECT_NAMED
  return Reject::Unavailable;
}

Bytes encode_request(const Request& request) {
  Map map{{"v", kVersion}, {"id", request.id}, {"verb", request.verb}};
  merge(map, request.args);
  return pack(std::move(map));
}

Decoded<Request> decode_request(ByteView bytes) {
  if (bytes.size() > kMaxRequestSize) return refuse(Reject::TooLarge);
  auto map = unpack(bytes);
  if (!map) return refuse(map.error());
  const auto id = versioned_id(*map);
  if (!id) return refuse(id.error());
  auto verb = field<std::string>(*map, "verb");
  if (!verb) return refuse(verb.error());
  return Request{*id, std::move(*verb), std::move(*map), {}};
}

std::vector<Bytes> encode_answer(const Answer& answer) {
  Map map{{"v", kVersion},
          {"id", answer.id},
          {"status", answer.refused ? to_string(*answer.refused) : std::string_view("ok")}};
  if (answer.refused == Reject::Busy) map.emplace_back("after_ms", answer.after_ms);
  merge(map, answer.fields);
  std::vector<Bytes> frames;
  frames.reserve(1 + answer.parts.size());
  frames.push_back(pack(std::move(map)));
  frames.insert(frames.end(), answer.parts.begin(), answer.parts.end());
  return frames;
}

Decoded<Answer> decode_answer(std::span<const Bytes> frames) {
  if (frames.empty()) return refuse(Reject::Truncated);
  if (frames.size() > 1 + kMaxAnswerParts) return refuse(Reject::TooLarge);
  std::size_t total = 0;
  for (const Bytes& frame : frames) total += frame.size();
  if (total > 2 * kMaxAnswerBytes) return refuse(Reject::TooLarge);
  auto map = unpack(frames.front());
  if (!map) return refuse(map.error());
  const auto id = versioned_id(*map);
  if (!id) return refuse(id.error());
  const auto status = field<std::string>(*map, "status");
  if (!status) return refuse(status.error());
  Answer answer;
  answer.id = *id;
  if (*status != "ok") answer.refused = reject_named(*status);
  if (const Value* after = map->find("after_ms"))
    answer.after_ms = static_cast<std::uint32_t>(std::min<std::uint64_t>(after->as_u64().value_or(0), 60'000));
  answer.fields = std::move(*map);
  answer.parts.assign(frames.begin() + 1, frames.end());
  return answer;
}

Map to_args(const ReplayRequest& r) {
  return {{"stream", r.stream}, {"from", r.from}, {"to", r.to}, {"prefix", r.prefix}, {"bytes", r.max_bytes}};
}

Decoded<ReplayRequest> replay_request(const Value& args) {
  const auto stream = field<Hash>(args, "stream");
  const auto from = field<std::uint64_t>(args, "from");
  const auto to = field<std::uint64_t>(args, "to");
  const auto prefix = field<std::string>(args, "prefix");
  const auto bytes = field<std::uint64_t>(args, "bytes");
  for (const auto* number : {&from, &to, &bytes})
    if (!*number) return refuse(number->error());
  if (!stream) return refuse(stream.error());
  if (!prefix) return refuse(prefix.error());
  if (!prefix->empty() && !valid_topic(*prefix)) return refuse(Reject::BadTopic);
  if (*from == 0 || *from > *to) return refuse(Reject::BadField);
  return ReplayRequest{*stream, *from, *to, *prefix, *bytes};
}

Map to_fields(const ReplayAnswer& a) {
  return {{"through", a.through}, {"more", a.more}, {"oldest", a.oldest}, {"last", a.last}};
}

Decoded<ReplayAnswer> replay_answer(const Value& fields) {
  const auto through = field<std::uint64_t>(fields, "through");
  const auto oldest = field<std::uint64_t>(fields, "oldest");
  const auto last = field<std::uint64_t>(fields, "last");
  for (const auto* number : {&through, &oldest, &last})
    if (!*number) return refuse(number->error());
  const Value* more = fields.find("more");
  if (!more) return refuse(Reject::MissingKey);
  if (!more->as_bool()) return refuse(Reject::WrongType);
  return ReplayAnswer{*through, *more->as_bool(), *oldest, *last};
}

Map to_args(const Submission& s) {
  return {{"sender", Binary{s.sender}}, {"n", s.n}, {"topic", s.topic}, {"body", Binary{s.body}}};
}

Decoded<Submission> submission(const Value& args) {
  const Value* sender = args.find("sender");
  const auto n = field<std::uint64_t>(args, "n");
  const auto topic = field<std::string>(args, "topic");
  const Value* body = args.find("body");
  if (!sender || !body) return refuse(Reject::MissingKey);
  if (!sender->as_binary() || !body->as_binary()) return refuse(Reject::WrongType);
  if (!n) return refuse(n.error());
  if (!topic) return refuse(topic.error());
  if (sender->as_binary()->size() != kSenderSize) return refuse(Reject::BadField);
  if (!valid_topic(*topic)) return refuse(Reject::BadTopic);
  if (body->as_binary()->size() > kMaxEventSize) return refuse(Reject::TooLarge);
  return Submission{*sender->as_binary(), *n, *topic, *body->as_binary()};
}

}  // namespace mirrorbus::proto
