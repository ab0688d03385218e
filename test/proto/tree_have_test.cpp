#include "proto/tree_have.hpp"

#include "proto/serve.hpp"
#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

template <class T>
std::string why(const Decoded<T>& decoded) {
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}

HaveRequest request() {
  return {"distribution", Bytes(16, 'r'), 6, 7, "http://192.0.2.7:9944"};
}
HaveAnswer answer() {
  return {7, "http://192.0.2.1:9944", HaveAnswer::Pull::Others,
          {"http://192.0.2.8:9944", "http://[2001:db8::1]:9944"}, 5000};
}

Map with(Map map, std::string_view key, Value value) {
  for (auto& [name, old] : map)
    if (name == key) old = std::move(value);
  return map;
}
Map without(Map map, std::string_view key) {
  std::erase_if(map, [&](const auto& entry) { return entry.first == key; });
  return map;
}

}  // namespace

TEST_CASE("what a mirror has survives", "[have]") {
  const Bytes bytes = encode_request({17, "have", to_args(request())});
  CHECK(mirrorbus::test::is_golden("serve/have.bin", bytes));
  const auto back = decode_request(bytes);
  REQUIRE(back);
  CHECK(have_request(back->args) == request());
}

TEST_CASE("where to pull from survives", "[have]") {
  Answer sent;
  sent.id = 17;
  sent.fields = to_fields(answer());
  const auto frames = encode_answer(sent);
  CHECK(mirrorbus::test::is_golden("serve/have_answer.bin", frames.front()));
  const auto back = decode_answer(frames);
  REQUIRE(back);
  CHECK(have_answer(back->fields) == answer());
}

TEST_CASE("bad words about what one has are refused by name", "[have]") {
  const Map good = to_args(request());
  for (const char* key : {"name", "run", "number", "want", "content"}) {
    CAPTURE(key);
    CHECK(why(have_request(without(good, key))) == "missing_key");
    CHECK(why(have_request(with(good, key, Array{}))) == "wrong_type");
  }
  CHECK(why(have_request(with(good, "name", "two.words"))) == "bad_topic");
  CHECK(why(have_request(with(good, "run", Binary{Bytes(15, 'r')}))) == "bad_field");
  CHECK(why(have_request(with(good, "content", "ftp://192.0.2.7"))) == "bad_field");
  CHECK(why(have_request(with(good, "content", "http://a b"))) == "bad_field");
  CHECK(why(have_request(with(good, "content", "http://" + std::string(kMaxUrlSize, 'x')))) ==
        "too_large");
  CHECK(why(have_request(with(good, "content", ""))) == "accepted");
}

TEST_CASE("bad answers about where to pull from are refused by name", "[have]") {
  const Map good = to_fields(answer());
  for (const char* key : {"number", "content", "pull", "sources", "again_ms"}) {
    CAPTURE(key);
    CHECK(why(have_answer(without(good, key))) == "missing_key");
    CHECK(why(have_answer(with(good, key, Map{}))) == "wrong_type");
  }
  CHECK(why(have_answer(with(good, "pull", "everywhere"))) == "bad_field");
  CHECK(why(have_answer(with(good, "sources", Array(9, Value("http://a"))))) == "bad_count");
  CHECK(why(have_answer(with(good, "sources", Array{""}))) == "bad_field");
  CHECK(why(have_answer(with(good, "sources", Array{7}))) == "wrong_type");
  CHECK(why(have_answer(with(good, "again_ms", 600'001))) == "bad_field");
}
