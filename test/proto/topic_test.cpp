#include "proto/topic.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

TEST_CASE("topics are words with dots between them", "[topic]") {
  for (const char* good : {"a", "org.example.dev.shell.log.line", "a-b_9.x"})
    CHECK(valid_topic(good));
  for (const char* bad : {"", ".", "a.", ".a", "a..b", "A", "a b", "a*", "\xc3\xa4", "a/b"}) {
    INFO(bad);
    CHECK_FALSE(valid_topic(bad));
  }
  CHECK_FALSE(valid_topic(ByteView("a\0b", 3)));
  CHECK(valid_topic(std::string(255, 'a')));
  CHECK_FALSE(valid_topic(std::string(256, 'a')));
  std::string deep = "a";
  for (int i = 1; i < 32; ++i) deep += ".a";
  CHECK(valid_topic(deep));
  CHECK_FALSE(valid_topic(deep + ".a"));
}

TEST_CASE("prefixes end at segments", "[topic]") {
  CHECK(is_under("a.b", "a"));
  CHECK(is_under("a.b", "a.b"));
  CHECK(is_under("a.b", ""));
  CHECK_FALSE(is_under("a.bc", "a.b"));
  CHECK_FALSE(is_under("a", "a.b"));
  CHECK_FALSE(is_under("a.b", "a."));
  CHECK(topic_prefix("a.b.c", 0) == "");
  CHECK(topic_prefix("a.b.c", 2) == "a.b");
  CHECK(topic_prefix("a.b.c", 9) == "a.b.c");
  CHECK(segment_count("a.b.c") == 3);
  CHECK(segment_count("") == 0);
}

TEST_CASE("patterns", "[topic]") {
  const auto matches = [](const char* pattern, const char* topic) {
    const auto parsed = TopicPattern::parse(pattern);
    REQUIRE(parsed);
    return parsed->matches(topic);
  };
  CHECK(matches("a.*.c", "a.b.c"));
  CHECK_FALSE(matches("a.*.c", "a.c"));
  CHECK_FALSE(matches("a.*.c", "a.b.b.c"));
  CHECK(matches("a.**", "a"));
  CHECK(matches("a.**", "a.b.c"));
  CHECK_FALSE(matches("a.**", "ab"));
  CHECK(matches("**", "a.b"));
  CHECK(matches("**.update", "update"));
  CHECK(matches("**.update", "a.b.update"));
  CHECK_FALSE(matches("**.update", "a.update.b"));
  CHECK(matches("a.**.x.**.z", "a.x.x.b.z"));
  CHECK_FALSE(matches("a.**.x.**.z", "a.b.z"));
  // Many wildcards against a topic that almost fits: no exponential search.
  CHECK_FALSE(matches("**.a.**.a.**.a.**.a.**.a.**.b",
                      "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"));
  for (const char* bad : {"", "a.", ".a", "a..b", "a*", "***", "a.B", "a b"}) {
    INFO(bad);
    const auto parsed = TopicPattern::parse(bad);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error() == Reject::BadPattern);
  }
}

TEST_CASE("the prefix that patterns share", "[topic]") {
  const auto common = [](std::initializer_list<const char*> texts) {
    std::vector<TopicPattern> patterns;
    for (const char* text : texts) patterns.push_back(*TopicPattern::parse(text));
    return common_prefix(patterns);
  };
  CHECK(common({"a.b.c"}) == "a.b.c");
  CHECK(common({"a.b.*", "a.b.c.d"}) == "a.b");
  CHECK(common({"a.bc.d", "a.b.d"}) == "a");
  CHECK(common({"a.b", "**"}) == "");
  CHECK(common({}) == "");
}
