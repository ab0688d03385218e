#include "proto/http_submit.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

HttpSubmission submitted() {
  return {"org.example.dev.shell.done",
          {{"message", "hi"}, {"took", 2.5}},
          SubmissionName{Bytes(16, '\xab'), 7}};
}

template <class T>
std::string why(const Decoded<T>& decoded) {
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}

std::string json(std::string_view text) {
  return why(decode_http_submission(text, HttpForm::Json));
}

}  // namespace

TEST_CASE("a submission over HTTP survives in both forms", "[http_submit]") {
  for (const HttpForm form : {HttpForm::Json, HttpForm::Msgpack}) {
    for (const bool named : {true, false}) {
      HttpSubmission submission = submitted();
      if (!named) submission.name.reset();
      const auto back = decode_http_submission(encode_http_submission(submission, form), form);
      REQUIRE(back);
      CHECK(*back == submission);
    }
  }
  CHECK(mirrorbus::test::is_golden("http_submit/submission.json",
                                   encode_http_submission(submitted(), HttpForm::Json)));
  CHECK(mirrorbus::test::is_golden("http_submit/submission.bin",
                                   encode_http_submission(submitted(), HttpForm::Msgpack)));
}

TEST_CASE("what people write by hand is taken", "[http_submit]") {
  const auto got = decode_http_submission(
      " {\"n\": 0, \"sender\": \"00112233445566778899AABBCCDDEEFF\",\n"
      "  \"body\": {}, \"topic\": \"org.example.dev.x\"} ",
      HttpForm::Json);
  REQUIRE(got);
  CHECK(got->body.empty());
  REQUIRE(got->name);
  CHECK(to_hex(got->name->sender) == "00112233445566778899aabbccddeeff");
  CHECK(got->name->n == 0);
}

TEST_CASE("bad submissions over HTTP are refused by name", "[http_submit]") {
  const std::string topic = R"("topic":"org.example.dev.x")", body = R"("body":{})";
  const std::string sender = R"("sender":"00112233445566778899aabbccddeeff")";
  const auto with = [&](const std::string& more) {
    return json("{" + topic + "," + body + (more.empty() ? "" : "," + more) + "}");
  };
  CHECK(with("") == "accepted");
  CHECK(with(sender + ",\"n\":18446744073709551615") == "accepted");
  CHECK(json("") == "bad_json");
  CHECK(json("{" + topic) == "bad_json");
  CHECK(json("{} {}") == "bad_json");
  CHECK(json("{\"topic\":\"\xff\"}") == "bad_json");
  CHECK(with(body) == "bad_json");  // twice
  CHECK(json("[]") == "wrong_type");
  CHECK(json("{" + body + "}") == "missing_key");
  CHECK(json("{" + topic + "}") == "missing_key");
  CHECK(json("{" + topic + ",\"body\":[]}") == "wrong_type");
  CHECK(json("{" + topic + ",\"body\":null}") == "wrong_type");
  CHECK(json("{" + body + ",\"topic\":7}") == "wrong_type");
  CHECK(json("{" + body + ",\"topic\":\"no spaces\"}") == "bad_topic");
  CHECK(with(sender) == "missing_key");
  CHECK(with("\"n\":1") == "missing_key");
  CHECK(with(sender + ",\"n\":-1") == "wrong_type");
  CHECK(with(sender + ",\"n\":\"1\"") == "wrong_type");
  CHECK(with("\"n\":1,\"sender\":7") == "wrong_type");
  CHECK(with("\"n\":1,\"sender\":\"0011\"") == "bad_field");
  CHECK(with("\"n\":1,\"sender\":\"zz112233445566778899aabbccddeeff\"") == "bad_field");
  CHECK(with("\"sendr\":1") == "bad_field");

  const auto packed = [](const Map& map) {
    return why(decode_http_submission(pack(map), HttpForm::Msgpack));
  };
  const Map good{{"topic", "org.example.dev.x"}, {"body", Map{}}};
  CHECK(packed(good) == "accepted");
  CHECK(why(decode_http_submission("\xc1", HttpForm::Msgpack)) == "bad_msgpack");
  CHECK(why(decode_http_submission(pack(good).substr(0, 9), HttpForm::Msgpack)) == "truncated");
  Map short_sender = good;
  short_sender.emplace_back("sender", Binary{"short"});
  CHECK(packed(short_sender) == "bad_field");
  Map text_sender = good;
  text_sender.emplace_back("sender", "00112233445566778899aabbccddeeff");
  CHECK(packed(text_sender) == "wrong_type");
}

TEST_CASE("JSON of an object with very many keys is refused early", "[http_submit]") {
  std::string text = R"({"topic":"org.example.dev.x","body":{)";
  for (std::size_t i = 0; i <= kMaxMapEntries; ++i)
    text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":0";
  CHECK(json(text + "}}") == "bad_json");
}

TEST_CASE("a content type is taken with its parameters", "[http_submit]") {
  CHECK(http_form("application/json") == HttpForm::Json);
  CHECK(http_form("Application/JSON ; charset=utf-8") == HttpForm::Json);
  CHECK(http_form("application/msgpack") == HttpForm::Msgpack);
  for (const char* other : {"", "application/jsonp", "text/plain",
                            "application/x-www-form-urlencoded", ";application/json"})
    CHECK_FALSE(http_form(other));
}

TEST_CASE("an idempotency key is a name, and each client's own", "[http_submit]") {
  const auto name = name_from_key("token:build", "job 7");
  REQUIRE(name);
  CHECK(name->n == 0);
  // Written down in http_submit.md: repeats over an upgrade depend on it.
  CHECK(to_hex(name->sender) == "f8e565e12ed4fb317facfaf809a6668b");
  CHECK(*name == *name_from_key("token:build", "job 7"));
  CHECK(*name != *name_from_key("token:build", "job 8"));
  CHECK(*name != *name_from_key("token:other", "job 7"));
  CHECK(*name_from_key("token:buildj", "ob 7") != *name);
  CHECK(why(name_from_key("token:build", "")) == "bad_field");
  CHECK(why(name_from_key("token:build", std::string(256, 'k'))) == "bad_field");
  CHECK(why(name_from_key("token:build", std::string(255, 'k'))) == "accepted");
}

TEST_CASE("each refusal has a status", "[http_submit]") {
  CHECK(http_status(Reject::BadJson) == 400);
  CHECK(http_status(Reject::BadTopic) == 400);
  CHECK(http_status(Reject::UnknownToken) == 401);
  CHECK(http_status(Reject::NotAllowed) == 403);
  CHECK(http_status(Reject::ScopeDenied) == 403);
  CHECK(http_status(Reject::TooLarge) == 413);
  CHECK(http_status(Reject::BadContentType) == 415);
  CHECK(http_status(Reject::RateLimited) == 429);
  CHECK(http_status(Reject::Busy) == 503);
}
