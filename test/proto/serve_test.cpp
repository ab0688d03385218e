#include "proto/serve.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

template <class T>
std::string why(const Decoded<T>& decoded) {
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}

ReplayRequest replay() { return {hash_of('s'), 5, 90, "org.example.dev", 1 << 20}; }
Submission submitted() { return {Bytes(16, 'r'), 7, "org.example.dev.shell.log.line", "\x80"}; }

void set(Map& map, std::string_view key, Value value) {
  for (auto& [name, old] : map)
    if (name == key) old = std::move(value);
}
void drop(Map& map, std::string_view key) {
  std::erase_if(map, [&](const auto& entry) { return entry.first == key; });
}

}  // namespace

TEST_CASE("a request survives", "[serve]") {
  const Bytes bytes = encode_request({17, "replay", to_args(replay())});
  CHECK(mirrorbus::test::is_golden("serve/replay.bin", bytes));
  const auto back = decode_request(bytes);
  REQUIRE(back);
  CHECK(back->id == 17);
  CHECK(back->verb == "replay");
  const auto args = replay_request(back->args);
  REQUIRE(args);
  CHECK(args->stream == hash_of('s'));
  CHECK(args->from == 5);
  CHECK(args->to == 90);
  CHECK(args->prefix == "org.example.dev");
  CHECK(args->max_bytes == 1 << 20);
}

TEST_CASE("bad requests are refused by name", "[serve]") {
  CHECK(why(decode_request(pack(Array{}))) == "wrong_type");
  CHECK(why(decode_request(pack(Map{{"id", 1}, {"verb", "x"}}))) == "missing_key");
  CHECK(why(decode_request(pack(Map{{"v", 2}, {"id", 1}, {"verb", "x"}}))) == "bad_version");
  CHECK(why(decode_request(pack(Map{{"v", 1}, {"verb", "x"}}))) == "missing_key");
  CHECK(why(decode_request(pack(Map{{"v", 1}, {"id", -1}, {"verb", "x"}}))) == "wrong_type");
  CHECK(why(decode_request(pack(Map{{"v", 1}, {"id", 1}}))) == "missing_key");
  CHECK(why(decode_request(pack(Map{{"v", 1}, {"id", 1}, {"verb", 2}}))) == "wrong_type");
  CHECK(why(decode_request("")) == "truncated");
  CHECK(why(decode_request(Bytes(kMaxRequestSize + 1, 'x'))) == "too_large");
}

TEST_CASE("an answer survives, with its parts", "[serve]") {
  Answer answer;
  answer.id = 17;
  answer.fields = to_fields(ReplayAnswer{80, true, 1, 90});
  answer.parts = {"row one", "row two"};
  const auto frames = encode_answer(answer);
  CHECK(mirrorbus::test::is_golden("serve/answer.bin", frames.front()));
  const auto back = decode_answer(frames);
  REQUIRE(back);
  CHECK(back->id == 17);
  CHECK_FALSE(back->refused);
  CHECK(back->parts == answer.parts);
  const auto fields = replay_answer(back->fields);
  REQUIRE(fields);
  CHECK(fields->through == 80);
  CHECK(fields->more);
  CHECK(fields->last == 90);
}

TEST_CASE("a refusal survives by its name", "[serve]") {
  Answer answer;
  answer.id = 3;
  answer.refused = Reject::Busy;
  answer.after_ms = 250;
  const auto back = decode_answer(encode_answer(answer));
  REQUIRE(back);
  CHECK(back->refused == Reject::Busy);
  CHECK(back->after_ms == 250);
  // A reason that a later version has, and a pause that nobody would want to keep.
  const std::vector<Bytes> newer{
      pack(Map{{"v", 1}, {"id", 3}, {"status", "out_of_cheese"}, {"after_ms", UINT64_MAX}})};
  const auto unknown = decode_answer(newer);
  REQUIRE(unknown);
  CHECK(unknown->refused == Reject::Unavailable);
  CHECK(unknown->after_ms == 60'000);
}

TEST_CASE("bad answers are refused by name", "[serve]") {
  CHECK(why(decode_answer({})) == "truncated");
  CHECK(why(decode_answer(std::vector<Bytes>{pack(Map{{"v", 1}, {"id", 1}})})) == "missing_key");
  CHECK(why(decode_answer(std::vector<Bytes>(kMaxAnswerParts + 2, pack(Map{})))) == "too_large");
  CHECK(why(decode_answer(std::vector<Bytes>{pack(Map{}), Bytes(2 * kMaxAnswerBytes, 'x')})) ==
        "too_large");
  const auto answer = [](auto change) {
    Map fields = to_fields(ReplayAnswer{80, true, 1, 90});
    change(fields);
    return why(replay_answer(Value(std::move(fields))));
  };
  for (const char* key : {"through", "more", "oldest", "last"}) {
    CHECK(answer([&](Map& map) { drop(map, key); }) == "missing_key");
    CHECK(answer([&](Map& map) { set(map, key, "text"); }) == "wrong_type");
  }
}

TEST_CASE("bad arguments of replay are refused by name", "[serve]") {
  const auto refused = [](auto change) {
    Map args = to_args(replay());
    change(args);
    return why(replay_request(Value(std::move(args))));
  };
  for (const char* key : {"stream", "from", "to", "prefix", "bytes"}) {
    CHECK(refused([&](Map& map) { drop(map, key); }) == "missing_key");
    CHECK(refused([&](Map& map) { set(map, key, Array{}); }) == "wrong_type");
  }
  CHECK(refused([](Map& map) { set(map, "from", 0); }) == "bad_field");
  CHECK(refused([](Map& map) { set(map, "from", 91); }) == "bad_field");
  CHECK(refused([](Map& map) { set(map, "prefix", "A"); }) == "bad_topic");
  CHECK(refused([](Map& map) { set(map, "prefix", ""); }) == "accepted");
}

TEST_CASE("a submission survives, and is refused by name", "[serve]") {
  const Map args = to_args(submitted());
  CHECK(mirrorbus::test::is_golden("serve/submit.bin", encode_request({7, "submit", args})));
  const auto back = submission(Value(args));
  REQUIRE(back);
  CHECK(back->sender == Bytes(16, 'r'));
  CHECK(back->n == 7);
  CHECK(back->topic == submitted().topic);
  CHECK(back->body == "\x80");
  const auto refused = [](auto change) {
    Map map = to_args(submitted());
    change(map);
    return why(submission(Value(std::move(map))));
  };
  for (const char* key : {"sender", "n", "topic", "body"}) {
    CHECK(refused([&](Map& map) { drop(map, key); }) == "missing_key");
    CHECK(refused([&](Map& map) { set(map, key, Array{}); }) == "wrong_type");
  }
  CHECK(refused([](Map& map) { set(map, "sender", Binary{"short"}); }) == "bad_field");
  CHECK(refused([](Map& map) { set(map, "topic", "a b"); }) == "bad_topic");
  CHECK(refused([](Map& map) { set(map, "body", Binary{Bytes(kMaxEventSize + 1, 'x')}); }) ==
        "too_large");
}
