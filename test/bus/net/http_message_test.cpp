#include "bus/net/http_message.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::net;

namespace {
std::string range(std::string_view header, std::uint64_t size) {
  ByteRange r{0, size};
  switch (choose_range(header, size, r)) {
    case RangeAnswer::Whole: return "whole";
    case RangeAnswer::Unsatisfiable: return "unsatisfiable";
    case RangeAnswer::Part: return std::to_string(r.first) + "+" + std::to_string(r.length);
  }
  return "";
}
}  // namespace

TEST_CASE("one byte range is understood, all else means the whole", "[http]") {
  CHECK(range("bytes=0-9", 100) == "0+10");
  CHECK(range("bytes=90-", 100) == "90+10");
  CHECK(range("bytes=90-1000", 100) == "90+10");
  CHECK(range("bytes=-10", 100) == "90+10");
  CHECK(range("bytes=-1000", 100) == "0+100");
  CHECK(range("bytes=99-99", 100) == "99+1");
  CHECK(range("bytes=0-18446744073709551615", 100) == "0+100");
  for (const char* beyond : {"bytes=100-", "bytes=100-200", "bytes=-0"})
    CHECK(range(beyond, 100) == "unsatisfiable");
  CHECK(range("bytes=0-", 0) == "unsatisfiable");
  CHECK(range("bytes=-5", 0) == "unsatisfiable");
  for (const char* odd :
       {"", "bytes", "bytes=", "bytes=-", "bytes=5", "bytes=9-5", "bytes=a-5", "bytes=5-a",
        "bytes=0-1,5-6", "items=0-5", "bytes=--5", "bytes=99999999999999999999-"})
    CHECK(range(odd, 100) == "whole");
}

TEST_CASE("targets become paths that stay where they are", "[http]") {
  CHECK(parse_target("/a/b?x=1")->path == "/a/b");
  CHECK(parse_target("/a/b?x=1")->query == "x=1");
  CHECK(parse_target("/a%20b")->path == "/a b");
  CHECK(parse_target("http://host:1/x")->path == "/x");
  CHECK(parse_target("http://host")->path == "/");
  CHECK(parse_target("/a/...")->path == "/a/...");
  for (const char* bad :
       {"", "a", "*", "/a/../b", "/..", "/a/.", "/%2e%2e/etc", "/a/%2E", "/%zz", "/%2", "/a%00b"})
    CHECK_FALSE(parse_target(bad));
}

TEST_CASE("query parameters are decoded", "[http]") {
  HttpRequest request;
  request.query = "a=1&b=x+y%2Fz&flag&a=2&=empty";
  CHECK(request.parameter("a") == "1");
  CHECK(request.parameter("b") == "x y/z");
  CHECK(request.parameter("flag") == "");
  CHECK_FALSE(request.parameter("c"));
}

TEST_CASE("entity tags compare weakly in a list", "[http]") {
  CHECK(etag_matches("\"a\"", "\"a\""));
  CHECK(etag_matches("\"b\", W/\"a\"", "\"a\""));
  CHECK(etag_matches("*", "\"a\""));
  CHECK_FALSE(etag_matches("\"b\"", "\"a\""));
  CHECK_FALSE(etag_matches("", "\"a\""));
}
