#include "proto/http_submit.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "proto/topic.hpp"

#include <algorithm>

namespace mirrorbus::proto {
namespace {

// Keeps these names apart from everything else that is hashed here.
constexpr ByteView kKeyMagic("mirrorbus idem 1", 16);

Decoded<Value> parse(ByteView bytes, HttpForm form) {
  if (form == HttpForm::Msgpack) return unpack(bytes);
  auto value = from_json(bytes);
  if (!value) return refuse(Reject::BadJson);
  return std::move(*value);
}

// Hexadecimal in JSON, which has no bytes. Nothing, or why not.
std::optional<Reject> read_sender(const Value& value, HttpForm form, Bytes& out) {
  if (form == HttpForm::Json) {
    if (!value.as_text()) return Reject::WrongType;
    if (!from_hex(*value.as_text(), out)) return Reject::BadField;
  } else {
    if (!value.as_binary()) return Reject::WrongType;
    out = *value.as_binary();
  }
  if (out.size() != kSenderSize) return Reject::BadField;
  return std::nullopt;
}

}  // namespace

std::optional<HttpForm> http_form(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  std::ranges::transform(type, type.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  if (type == "application/json") return HttpForm::Json;
  if (type == "application/msgpack") return HttpForm::Msgpack;
  return std::nullopt;
}

Decoded<HttpSubmission> decode_http_submission(ByteView bytes, HttpForm form) {
  auto value = parse(bytes, form);
  if (!value) return refuse(value.error());
  Map* const map = std::get_if<Map>(&value->data);
  if (!map) return refuse(Reject::WrongType);
  HttpSubmission out;
  bool has_topic = false, has_body = false, has_sender = false, has_n = false;
  SubmissionName name;
  for (auto& [key, item] : *map) {
    if (key == "topic") {
      if (!item.as_text()) return refuse(Reject::WrongType);
      out.topic = std::move(std::get<std::string>(item.data));
      has_topic = true;
    } else if (key == "body") {
      if (!item.as_map()) return refuse(Reject::WrongType);
      out.body = std::move(std::get<Map>(item.data));
      has_body = true;
    } else if (key == "sender") {
      if (const auto why = read_sender(item, form, name.sender)) return refuse(*why);
      has_sender = true;
    } else if (key == "n") {
      if (!item.as_u64()) return refuse(Reject::WrongType);
      name.n = *item.as_u64();
      has_n = true;
    } else {
      return refuse(Reject::BadField);
    }
  }
  if (!has_topic || !has_body || has_sender != has_n) return refuse(Reject::MissingKey);
  if (!valid_topic(out.topic)) return refuse(Reject::BadTopic);
  if (has_sender) out.name = std::move(name);
  return out;
}

Bytes encode_http_submission(const HttpSubmission& submission, HttpForm form) {
  Map map{{"topic", submission.topic}, {"body", submission.body}};
  if (submission.name) {
    map.emplace_back("sender", Binary{submission.name->sender});
    map.emplace_back("n", submission.name->n);
  }
  return form == HttpForm::Json ? to_json(map) : pack(map);
}

Decoded<SubmissionName> name_from_key(std::string_view client, std::string_view key) {
  if (key.empty() || key.size() > kMaxIdempotencyKey) return refuse(Reject::BadField);
  // The client's own hash has a fixed length: where it ends and the key begins is never in doubt.
  const Hash whole =
      Sha256().update(kKeyMagic).update(sha256(client).view()).update(key).finish();
  return SubmissionName{Bytes(whole.view().substr(0, kSenderSize)), 0};
}

int http_status(Reject why) noexcept {
  switch (why) {
    case Reject::UnknownToken: return 401;
    case Reject::NotAllowed:
    case Reject::ScopeDenied: return 403;
    case Reject::UnknownVerb: return 405;
    case Reject::TooLarge: return 413;
    case Reject::BadContentType: return 415;
    case Reject::RateLimited: return 429;
    case Reject::Busy:
    case Reject::Unavailable: return 503;
    default: return 400;
  }
}

}  // namespace mirrorbus::proto
