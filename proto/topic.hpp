// Topics, prefixes of topics, and patterns over them. See topic.md.
//
//   <prefix>.<env>.<service>.<object>[.<subobject>].<event>
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mirrorbus::proto {

// Segments [a-z0-9_-]+ joined by dots, at most kMaxTopicSize bytes and kMaxTopicSegments segments.
bool valid_topic(ByteView topic) noexcept;
std::size_t segment_count(ByteView topic) noexcept;
// The first `depth` segments; all of them if there are fewer. Depth 0 is the empty prefix.
ByteView topic_prefix(ByteView topic, std::size_t depth) noexcept;
// Whole segments: "a.b" lies under "a" and "a.b", not under "a." or "aa". All lies under "".
bool is_under(ByteView topic, ByteView prefix) noexcept;

// `*` stands for one segment, `**` for any number, also none; the rest is literal.
class TopicPattern {
 public:
  static Decoded<TopicPattern> parse(ByteView text);

  bool matches(ByteView topic) const noexcept;
  // The literal whole segments before the first wildcard.
  std::string literal_prefix() const;
  const std::string& text() const noexcept { return text_; }
  bool operator==(const TopicPattern& other) const { return text_ == other.text_; }

 private:
  std::string text_;
  std::vector<std::string> segments_;
};

bool matches_any(std::span<const TopicPattern> patterns, ByteView topic) noexcept;
// The longest whole-segment prefix that everything these patterns match lies under.
std::string common_prefix(std::span<const TopicPattern> patterns);

}  // namespace mirrorbus::proto
