#include "proto/tree_have.hpp"

#include "proto/topic.hpp"

namespace mirrorbus::proto {
namespace {

constexpr std::string_view kPulls[] = {"none", "here", "others", "later"};

// "" stands for none.
Decoded<std::string> url(const Value& value) {
  const std::string* text = value.as_text();
  if (!text) return refuse(Reject::WrongType);
  if (text->size() > kMaxUrlSize) return refuse(Reject::TooLarge);
  if (!text->empty() && !text->starts_with("http://") && !text->starts_with("https://"))
    return refuse(Reject::BadField);
  for (const char c : *text)
    if (c <= ' ' || c == 0x7f) return refuse(Reject::BadField);
  return *text;
}

Decoded<std::string> url_field(const Value& map, std::string_view key) {
  const Value* value = map.find(key);
  if (!value) return refuse(Reject::MissingKey);
  return url(*value);
}

}  // namespace

Map to_args(const HaveRequest& r) {
  return {{"name", r.tree},
          {"run", Binary{r.run}},
          {"number", r.number},
          {"want", r.want},
          {"content", r.content}};
}

Decoded<HaveRequest> have_request(const Value& args) {
  const auto name = field<std::string>(args, "name");
  if (!name) return refuse(name.error());
  if (!valid_topic(*name) || segment_count(*name) != 1) return refuse(Reject::BadTopic);
  const Value* run = args.find("run");
  if (!run) return refuse(Reject::MissingKey);
  if (!run->as_binary()) return refuse(Reject::WrongType);
  if (run->as_binary()->size() != kRunSize) return refuse(Reject::BadField);
  const auto number = field<std::uint64_t>(args, "number");
  if (!number) return refuse(number.error());
  const auto want = field<std::uint64_t>(args, "want");
  if (!want) return refuse(want.error());
  const auto content = url_field(args, "content");
  if (!content) return refuse(content.error());
  return HaveRequest{*name, *run->as_binary(), *number, *want, *content};
}

Map to_fields(const HaveAnswer& a) {
  Array sources(a.sources.begin(), a.sources.end());
  return {{"number", a.number},
          {"content", a.content},
          {"pull", kPulls[static_cast<std::size_t>(a.pull)]},
          {"sources", std::move(sources)},
          {"again_ms", a.again_ms}};
}

Decoded<HaveAnswer> have_answer(const Value& fields) {
  HaveAnswer answer;
  const auto number = field<std::uint64_t>(fields, "number");
  if (!number) return refuse(number.error());
  answer.number = *number;
  auto content = url_field(fields, "content");
  if (!content) return refuse(content.error());
  answer.content = std::move(*content);
  const auto pull = field<std::string>(fields, "pull");
  if (!pull) return refuse(pull.error());
  std::size_t word = 0;
  while (word < std::size(kPulls) && kPulls[word] != *pull) ++word;
  if (word == std::size(kPulls)) return refuse(Reject::BadField);
  answer.pull = static_cast<HaveAnswer::Pull>(word);
  const Value* sources = fields.find("sources");
  if (!sources) return refuse(Reject::MissingKey);
  if (!sources->as_array()) return refuse(Reject::WrongType);
  if (sources->as_array()->size() > kMaxReferred) return refuse(Reject::BadCount);
  for (const Value& each : *sources->as_array()) {
    auto source = url(each);
    if (!source) return refuse(source.error());
    if (source->empty()) return refuse(Reject::BadField);
    answer.sources.push_back(std::move(*source));
  }
  const auto again = field<std::uint64_t>(fields, "again_ms");
  if (!again) return refuse(again.error());
  if (*again > kMaxAgainMs) return refuse(Reject::BadField);
  answer.again_ms = *again;
  return answer;
}

}  // namespace mirrorbus::proto
