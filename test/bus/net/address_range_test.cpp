#include "bus/net/address_range.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::net;

namespace {

bool within(const std::string& range, const std::string& address) {
  const auto parsed = AddressRange::parse(range);
  const auto one = parse_address(address);
  REQUIRE(parsed);
  REQUIRE(one);
  return parsed->contains(*one);
}

}  // namespace

TEST_CASE("an address lies in a range or not", "[net]") {
  CHECK(within("10.0.0.0/8", "10.255.0.1"));
  CHECK_FALSE(within("10.0.0.0/8", "11.0.0.1"));
  CHECK(within("192.0.2.128/25", "192.0.2.200"));
  CHECK_FALSE(within("192.0.2.128/25", "192.0.2.127"));
  CHECK(within("192.0.2.7", "192.0.2.7"));
  CHECK_FALSE(within("192.0.2.7", "192.0.2.6"));
  CHECK(within("0.0.0.0/0", "255.1.2.3"));
  CHECK_FALSE(within("0.0.0.0/0", "2001:db8::1"));
  CHECK(within("2001:db8::/33", "2001:db8:7fff::1"));
  CHECK_FALSE(within("2001:db8::/33", "2001:db8:8000::1"));
  CHECK(within("::1", "::1"));
  CHECK(within("::ffff:10.0.0.0/104", "10.1.2.3"));
  CHECK(within("::/0", "10.1.2.3"));
}

TEST_CASE("what is no range is none", "[net]") {
  for (const char* text : {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x",
                           "::/129", "::/0000", "10.0.0", "example.org", ":1:2:3",
                           "fe80::%eth0/10"})
    CHECK_FALSE(AddressRange::parse(text));
}

TEST_CASE("a host's addresses are neighbours", "[net]") {
  CHECK(neighbourhood("192.0.2.7") == "192.0.2.7");
  CHECK(neighbourhood("2001:db8:0:1::7") == neighbourhood("2001:db8:0:1:ffff::"));
  CHECK(neighbourhood("2001:db8:0:1::7") != neighbourhood("2001:db8:0:2::7"));
  CHECK(neighbourhood("no address") == "no address");
}

TEST_CASE("no ranges have every address, some have theirs", "[net]") {
  const std::vector ranges{*AddressRange::parse("10.0.0.0/8"), *AddressRange::parse("::1")};
  CHECK(any_contains({}, "192.0.2.7"));
  CHECK(any_contains(ranges, "10.1.2.3"));
  CHECK(any_contains(ranges, "::1"));
  CHECK_FALSE(any_contains(ranges, "192.0.2.7"));
  CHECK_FALSE(any_contains(ranges, "fe80::1%eth0"));  // as a link-local client is seen
  CHECK(any_contains(ranges, ":0:0:17"));
}
