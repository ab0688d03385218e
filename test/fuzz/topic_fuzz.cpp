// A pattern and a topic, a line each.
#include "proto/limits.hpp"
#include "proto/topic.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size), first = bytes.substr(0, bytes.find('\n'));
  const proto::ByteView topic = bytes.substr(std::min(bytes.size(), first.size() + 1));
  const auto pattern = proto::TopicPattern::parse(first);
  const bool valid = proto::valid_topic(topic);
  const std::size_t segments = proto::segment_count(topic);
  fuzz::require(!valid || (segments >= 1 && segments <= proto::kMaxTopicSegments),
                "a topic has some segments, not too many");
  for (std::size_t depth = 0; depth < 4; ++depth)
    fuzz::require(proto::is_under(topic, proto::topic_prefix(topic, depth)),
                  "a topic lies under its own prefixes");
  if (!pattern) return 0;
  const std::string prefix = pattern->literal_prefix();
  fuzz::require(prefix.empty() || proto::valid_topic(prefix), "a literal prefix is a topic");
  fuzz::require(!pattern->matches(topic) || proto::is_under(topic, prefix),
                "what a pattern matches lies under its literal prefix");
  fuzz::require(pattern->text() != topic || !valid || pattern->matches(topic),
                "a topic matches itself");
  const auto other = proto::TopicPattern::parse(topic);
  if (!other) return 0;
  const proto::TopicPattern both[] = {*pattern, *other};
  const std::string common = proto::common_prefix(both);
  for (const auto& each : both)
    fuzz::require(proto::is_under(each.literal_prefix(), common),
                  "a common prefix is one of every pattern");
  return 0;
}
