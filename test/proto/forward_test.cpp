#include "proto/forward.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;
using Kind = ForwardRequest::Kind;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

template <class T>
std::string why(const Decoded<T>& decoded) {
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}

Request request(Kind kind, std::vector<Bytes> parts, std::string token = "") {
  return {5, "forward", to_args(ForwardRequest{kind, hash_of('s'), std::move(token)}),
          std::move(parts)};
}

Request changed(std::string_view key, Value value) {
  Map args = to_args(ForwardRequest{Kind::Ask, hash_of('s'), "a secret"});
  for (auto& [name, old] : args)
    if (name == key) old = value;
  return {5, "forward", std::move(args), {}};
}

Request without(std::string_view key) {
  Map args = to_args(ForwardRequest{Kind::Ask, hash_of('s'), ""});
  std::erase_if(args, [&](const auto& entry) { return entry.first == key; });
  return {5, "forward", std::move(args), {}};
}

}  // namespace

TEST_CASE("handing over survives", "[forward]") {
  const Bytes bytes = encode_request(request(Kind::Rows, {}, "a secret"));
  CHECK(mirrorbus::test::is_golden("serve/forward.bin", bytes));
  auto back = decode_request(bytes);
  REQUIRE(back);
  CHECK(back->verb == "forward");
  back->parts = {"row", "row"};
  const auto forward = forward_request(*back);
  REQUIRE(forward);
  CHECK(*forward == ForwardRequest{Kind::Rows, hash_of('s'), "a secret"});
  for (const Kind kind : {Kind::Ask, Kind::Credential, Kind::Rows, Kind::Head}) {
    const auto again = forward_request(
        request(kind, kind == Kind::Ask ? std::vector<Bytes>{} : std::vector<Bytes>{"x"}));
    REQUIRE(again);
    CHECK(again->kind == kind);
    CHECK(again->token.empty());
  }
}

TEST_CASE("bad requests to hand over are refused by name", "[forward]") {
  CHECK(why(forward_request(without("stream"))) == "missing_key");
  CHECK(why(forward_request(without("kind"))) == "missing_key");
  CHECK(why(forward_request(changed("stream", "text"))) == "wrong_type");
  CHECK(why(forward_request(changed("kind", 7))) == "wrong_type");
  CHECK(why(forward_request(changed("kind", "tail"))) == "bad_field");
  CHECK(why(forward_request(changed("token", 7))) == "wrong_type");
  CHECK(why(forward_request(request(Kind::Ask, {"x"}))) == "trailing_bytes");
  CHECK(why(forward_request(request(Kind::Credential, {}))) == "truncated");
  CHECK(why(forward_request(request(Kind::Credential, {"x", "y"}))) == "too_large");
  CHECK(why(forward_request(request(Kind::Credential, {Bytes(kMaxCredentialSize + 1, 'x')}))) ==
        "too_large");
  CHECK(why(forward_request(request(Kind::Head, {}))) == "truncated");
  CHECK(why(forward_request(request(Kind::Head, {Bytes(kMaxFrameSize + 1, 'x')}))) == "too_large");
  CHECK(why(forward_request(request(Kind::Rows, {}))) == "truncated");
  CHECK(why(forward_request(request(Kind::Rows, {Bytes(kMaxRowSize + 1, 'x')}))) == "too_large");
  CHECK(why(forward_request(request(
            Kind::Rows, std::vector<Bytes>(kMaxForwardRows + 1, "x")))) == "too_large");
  CHECK(why(forward_request(request(
            Kind::Rows, std::vector<Bytes>(3, Bytes(kMaxRowSize, 'x'))))) == "too_large");
}

TEST_CASE("how far a relay is survives, or is refused by name", "[forward]") {
  const ForwardAnswer answer{7, 90, hash_of('h')};
  const auto back = forward_answer(Value(to_fields(answer)));
  REQUIRE(back);
  CHECK(*back == answer);
  for (const char* key : {"epoch", "through", "header"}) {
    Map fields = to_fields(answer);
    std::erase_if(fields, [&](const auto& entry) { return entry.first == key; });
    CHECK(why(forward_answer(Value(fields))) == "missing_key");
    fields.emplace_back(key, "text");
    CHECK(why(forward_answer(Value(fields))) == "wrong_type");
  }
}
