#include "proto/topic.hpp"

#include "proto/limits.hpp"

#include <algorithm>
#include <array>

namespace mirrorbus::proto {
namespace {

bool segment_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// Cuts the first segment off `rest`.
ByteView next_segment(ByteView& rest) noexcept {
  const std::size_t dot = rest.find('.');
  const ByteView segment = rest.substr(0, dot);
  rest = dot == ByteView::npos ? ByteView() : rest.substr(dot + 1);
  return segment;
}

// Greedy over `**` with one point to come back to: no recursion, at most segments × pattern steps.
bool match_segments(std::span<const std::string> pattern, std::span<const ByteView> topic) noexcept {
  constexpr std::size_t kNone = SIZE_MAX;
  std::size_t at = 0, segment = 0, retry_at = kNone, retry_segment = 0;
  while (segment < topic.size()) {
    if (at < pattern.size() && pattern[at] == "**") {
      retry_at = at++;
      retry_segment = segment;
    } else if (at < pattern.size() && (pattern[at] == "*" || pattern[at] == topic[segment])) {
      ++at;
      ++segment;
    } else if (retry_at != kNone) {
      at = retry_at + 1;
      segment = ++retry_segment;
    } else {
      return false;
    }
  }
  while (at < pattern.size() && pattern[at] == "**") ++at;
  return at == pattern.size();
}

}  // namespace

bool valid_topic(ByteView topic) noexcept {
  if (topic.empty() || topic.size() > kMaxTopicSize) return false;
  std::size_t segments = 1;
  bool filled = false;
  for (const char c : topic) {
    if (c == '.') {
      if (!filled || ++segments > kMaxTopicSegments) return false;
      filled = false;
    } else if (segment_byte(c)) {
      filled = true;
    } else {
      return false;
    }
  }
  return filled;
}

std::size_t segment_count(ByteView topic) noexcept {
  if (topic.empty()) return 0;
  return 1 + static_cast<std::size_t>(std::ranges::count(topic, '.'));
}

ByteView topic_prefix(ByteView topic, std::size_t depth) noexcept {
  if (depth == 0) return {};
  for (std::size_t i = 0; i < topic.size(); ++i)
    if (topic[i] == '.' && --depth == 0) return topic.substr(0, i);
  return topic;
}

bool is_under(ByteView topic, ByteView prefix) noexcept {
  if (prefix.empty()) return true;
  return topic.starts_with(prefix) &&
         (topic.size() == prefix.size() || topic[prefix.size()] == '.');
}

Decoded<TopicPattern> TopicPattern::parse(ByteView text) {
  if (text.empty() || text.size() > kMaxTopicSize) return refuse(Reject::BadPattern);
  TopicPattern pattern;
  pattern.text_ = text;
  if (text.back() == '.') return refuse(Reject::BadPattern);
  for (ByteView rest = text; !rest.empty();) {
    const ByteView segment = next_segment(rest);
    if (segment != "*" && segment != "**" &&
        (segment.empty() || !std::ranges::all_of(segment, segment_byte)))
      return refuse(Reject::BadPattern);
    pattern.segments_.emplace_back(segment);
  }
  if (pattern.segments_.size() > kMaxTopicSegments) return refuse(Reject::BadPattern);
  return pattern;
}

bool TopicPattern::matches(ByteView topic) const noexcept {
  std::array<ByteView, kMaxTopicSegments> segments;
  std::size_t count = 0;
  for (ByteView rest = topic; !rest.empty();) {
    if (count == segments.size()) return false;
    segments[count++] = next_segment(rest);
  }
  return count > 0 && match_segments(segments_, std::span(segments).first(count));
}

std::string TopicPattern::literal_prefix() const {
  std::string prefix;
  for (const std::string& segment : segments_) {
    if (segment == "*" || segment == "**") break;
    if (!prefix.empty()) prefix += '.';
    prefix += segment;
  }
  return prefix;
}

bool matches_any(std::span<const TopicPattern> patterns, ByteView topic) noexcept {
  return std::ranges::any_of(patterns, [&](const TopicPattern& p) { return p.matches(topic); });
}

std::string common_prefix(std::span<const TopicPattern> patterns) {
  if (patterns.empty()) return {};
  std::string common = patterns.front().literal_prefix();
  for (const TopicPattern& pattern : patterns.subspan(1)) {
    const std::string other = pattern.literal_prefix();
    while (!is_under(other, common)) {
      const std::size_t dot = common.rfind('.');
      common.resize(dot == std::string::npos ? 0 : dot);
    }
  }
  return common;
}

}  // namespace mirrorbus::proto
