#include "proto/value.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

TEST_CASE("values survive msgpack", "[value]") {
  const Value value(Map{{"n", 7}, {"neg", -3}, {"big", UINT64_MAX}, {"t", "grüße"}, {"f", 1.5},
                        {"b", Binary{Bytes("\0\xff", 2)}}, {"nil", Value{}}, {"yes", true},
                        {"list", Array{1, "two", Map{{"three", 3}}}}});
  const auto back = unpack(pack(value));
  REQUIRE(back);
  CHECK(*back == value);
  CHECK(value.find("n")->as_u64() == 7);
  CHECK(value.find("neg")->as_i64() == -3);
  CHECK_FALSE(value.find("neg")->as_u64());
  CHECK(value.find("absent") == nullptr);
}

TEST_CASE("hostile msgpack is refused by name", "[value]") {
  const auto why = [](ByteView bytes) {
    const auto value = unpack(bytes);
    return value ? std::string_view("accepted") : to_string(value.error());
  };
  CHECK(why("") == "truncated");
  // Six bytes that ask for 64 GiB with msgpack-c's default limits.
  CHECK(why("\xdd\x9f\xf9\x3b\x60\xff") == "truncated");
  CHECK(why("\xdb\x40\x00\x00\x00x") == "truncated");
  CHECK(why(ByteView("\xdf\xff\xff\xff\xff", 5)) == "too_large");
  CHECK(why(Bytes(100, '\x91') + "\x01") == "too_deep");
  CHECK(why(ByteView("\x01\x02", 2)) == "trailing_bytes");
  CHECK(why("\xc1") == "bad_msgpack");
  CHECK(why(ByteView("\xd4\x01\x00", 3)) == "wrong_type");           // ext
  CHECK(why(ByteView("\x81\x01\x01", 3)) == "wrong_type");           // key is a number
  CHECK(why(ByteView("\x82\xa1k\x01\xa1k\x02", 7)) == "not_canonical");  // key twice
  CHECK(why("\xa2\xff\xfe") == "bad_utf8");
  CHECK(why("\xa3\xed\xa0\x80") == "bad_utf8");  // a surrogate
}

TEST_CASE("values and JSON", "[value]") {
  CHECK(to_json(Map{{"a", 1}, {"b", Binary{"\x01\xff"}}}) == R"({"a":1,"b":"01ff"})");
  CHECK(from_json(R"({"a":[1,-2,"x",null,true,2.5]})") ==
        Value(Map{{"a", Array{1, -2, "x", Value{}, true, 2.5}}}));
  CHECK_FALSE(from_json("{"));
  CHECK_FALSE(from_json(std::string(1000, '[') + std::string(1000, ']')));
}
