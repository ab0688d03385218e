#include "bus/net/address_kind.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::net;
using Kind = AddressKind;

namespace {

Kind kind(const std::string& text) {
  CAPTURE(text);
  const auto address = parse_address(text);
  REQUIRE(address);
  return kind_of(*address);
}

}  // namespace

TEST_CASE("what kind of place an address leads to", "[net]") {
  for (const char* text : {"127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "::", "::1",
                           "::ffff:127.0.0.1", "::ffff:0.0.0.0", "64:ff9b::127.0.0.1",
                           "2002:7f00:1::"})
    CHECK(kind(text) == Kind::ThisHost);
  for (const char* text : {"169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254",
                           "fd00:ec2::254", "100.100.100.200", "64:ff9b::a9fe:a9fe"})
    CHECK(kind(text) == Kind::LinkLocal);
  for (const char* text : {"10.255.0.77", "172.31.255.9", "192.168.255.78", "100.64.0.99",
                           "fd12:3456::78", "::ffff:10.255.0.77"})
    CHECK(kind(text) == Kind::Private);
  for (const char* text : {"224.0.0.1", "239.1.2.3", "255.255.255.255", "240.0.0.1", "ff02::1",
                           "::ffff:224.0.0.1", "::8.8.8.8"})
    CHECK(kind(text) == Kind::Never);
  for (const char* text : {"8.8.8.8", "192.0.2.77", "172.32.0.1", "100.128.0.1", "2001:db8::77",
                           "2606:4700::1"})
    CHECK(kind(text) == Kind::Public);
}
