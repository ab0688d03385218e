#include "services/mirror/source_reach.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using mirror::SourceReach;

namespace {

net::Address at(const std::string& text) {
  const auto address = net::parse_address(text);
  REQUIRE(address);
  return *address;
}

const char* const kPublic = "192.0.2.77";
const char* const kPrivate = "10.255.0.77";
const char* const kLink = "169.254.169.254";
const char* const kHost = "127.0.0.1";
const char* const kMulticast = "224.0.0.1";

// Which of these it may lead to, one letter each.
std::string reached(const SourceReach& reach, const char* by = nullptr) {
  const auto from = by ? std::optional(at(by)) : std::nullopt;
  std::string letters;
  if (reach.allows(at(kPublic), from)) letters += 'p';
  if (reach.allows(at(kPrivate), from)) letters += 'n';
  if (reach.allows(at(kLink), from)) letters += 'l';
  if (reach.allows(at(kHost), from)) letters += 'h';
  if (reach.allows(at(kMulticast), from)) letters += 'm';
  return letters;
}

}  // namespace

TEST_CASE("who is met somewhere may name what is there, and the public network", "[sources]") {
  CHECK(reached(SourceReach::named_at(kPublic)) == "p");
  CHECK(reached(SourceReach::named_at("2001:db8::7")) == "p");
  CHECK(reached(SourceReach::named_at(kPrivate)) == "pn");
  CHECK(reached(SourceReach::named_at("fd12::7")) == "pn");
  CHECK(reached(SourceReach::named_at("fe80::1%eth0")) == "pl");
  CHECK(reached(SourceReach::named_at(kHost)) == "pnh");
  CHECK(reached(SourceReach::named_at("::1")) == "pnh");
  CHECK(reached(SourceReach::named_at(":0:0:17")) == "pnh");  // over a local socket
  CHECK(reached(SourceReach::named_at("")) == "p");
}

TEST_CASE("an operator's word is for what he wrote, not for where that redirects", "[sources]") {
  const SourceReach configured = SourceReach::anywhere();
  CHECK(reached(configured) == "pnlhm");
  CHECK(reached(configured, kPublic) == "p");
  CHECK(reached(configured, kPrivate) == "pn");
  CHECK(reached(configured, kHost) == "pnh");
  CHECK(reached(SourceReach::named_at(kPrivate), kPublic) == "pn");
  CHECK(reached(SourceReach::named_at(kPublic), kPublic) == "p");
  CHECK(SourceReach::named_at(kHost).handed_on());
  CHECK_FALSE(configured.handed_on());
}

TEST_CASE("ranges that an operator allows, and words of several", "[sources]") {
  const auto range = net::AddressRange::parse("10.255.0.0/16");
  const SourceReach reach = SourceReach::named_at(kPublic).also({*range});
  CHECK(reached(reach) == "pn");
  CHECK(reach.allows(at("::ffff:10.255.0.1"), std::nullopt));
  CHECK_FALSE(reach.allows(at("10.254.0.1"), std::nullopt));
  SourceReach both = SourceReach::named_at(kPrivate);
  both |= SourceReach::named_at(kLink);
  CHECK(reached(both) == "pnl");
}
