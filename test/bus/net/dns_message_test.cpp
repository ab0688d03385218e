#include "bus/net/dns_message.hpp"

#include "test/support/dns_bytes.hpp"

#include <random>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace mirrorbus::test;
using proto::Bytes;
using proto::Reject;

namespace {
const std::string kName = "_mirrorbus._tcp.example.org";
const Bytes kQuestion = dns_name(kName) + Bytes("\x00\x21\x00\x01", 4);
}  // namespace

TEST_CASE("records, their TTL and their targets are read", "[dns]") {
  DnsReply reply;
  reply.question = kQuestion;
  Bytes cname = dns_record("alias.example.org", 5, 30, dns_name(kName));
  reply.answers = {cname, dns_srv(kName, 60, 1, 2, 9940, "a.example.org"),
                   dns_srv(kName, 40, 3, 4, 5, "."), dns_record(kName, 46, 20, "signature")};
  const auto parsed = parse_srv_reply(reply.bytes());
  REQUIRE(parsed);
  REQUIRE(parsed->records.size() == 2);
  CHECK(parsed->records[0] == SrvRecord{1, 2, 9940, "a.example.org", {}, true});
  CHECK(parsed->records[1].target == ".");
  CHECK(parsed->ttl_s == 20);
  CHECK_FALSE(parsed->negative_ttl_s);
}

TEST_CASE("names may point back", "[dns]") {
  DnsReply reply;
  reply.question = kQuestion;
  Bytes data;
  // 0x0c is where the question's name stands.
  proto::Writer(data).u16(1).u16(2).u16(3).raw(Bytes("\x01x\xc0\x0c", 4));
  Bytes record = Bytes("\xc0\x0c", 2);
  proto::Writer(record)
      .u16(33)
      .u16(1)
      .u32(9)
      .u16(static_cast<std::uint16_t>(data.size()))
      .raw(data);
  reply.answers = {record};
  const auto parsed = parse_srv_reply(reply.bytes());
  REQUIRE(parsed);
  CHECK(parsed->records[0].target == "x." + kName);
}

TEST_CASE("a negative answer says how long it holds", "[dns]") {
  DnsReply reply;
  reply.rcode = 3;
  reply.question = kQuestion;
  reply.authorities = {dns_soa("example.org", 300, 120)};
  CHECK(parse_srv_reply(reply.bytes())->negative_ttl_s == 120);
  reply.authorities = {dns_soa("example.org", 30, 120)};
  const auto parsed = parse_srv_reply(reply.bytes());
  CHECK(parsed->negative_ttl_s == 30);
  CHECK(parsed->rcode == 3);
  CHECK(parsed->records.empty());
}

TEST_CASE("a TTL with its highest bit set is none", "[dns]") {
  DnsReply reply;
  reply.answers = {dns_srv(kName, 0x80000000, 1, 2, 3, "a")};
  CHECK(parse_srv_reply(reply.bytes())->ttl_s == 0);
}

TEST_CASE("what is no reply is refused", "[dns]") {
  DnsReply good;
  good.question = kQuestion;
  good.answers = {dns_srv(kName, 60, 1, 2, 9940, "a.example.org")};
  good.authorities = {dns_soa("example.org", 300, 120)};
  const Bytes bytes = good.bytes();
  REQUIRE(parse_srv_reply(bytes));
  for (std::size_t cut = 0; cut < bytes.size(); ++cut)
    CHECK_FALSE(parse_srv_reply(std::string_view(bytes).substr(0, cut)));
  CHECK(parse_srv_reply("").error() == Reject::Truncated);
  CHECK(parse_srv_reply(Bytes(70000, '\0')).error() == Reject::TooLarge);

  Bytes question = bytes;
  question[2] = 0x01;  // no longer a reply
  CHECK(parse_srv_reply(question).error() == Reject::BadField);

  DnsReply reply;
  const auto error = [&reply](const Bytes& record) {
    reply.answers = {record};
    return parse_srv_reply(reply.bytes()).error();
  };
  // A length beyond the message, and data that go on beyond their length.
  Bytes record = dns_srv(kName, 60, 1, 2, 3, "target");
  Bytes longer = record;
  longer[longer.size() - 15] = 40;
  CHECK(error(longer) == Reject::Truncated);
  Bytes data;
  proto::Writer(data).u16(1).u16(2).u16(3).raw(dns_name("target"));
  Bytes overlapping = dns_name(kName);
  proto::Writer(overlapping).u16(33).u16(1).u32(60).u16(8).raw(data);
  CHECK(error(overlapping) == Reject::BadField);
  // A name that points to itself, and one that points ahead.
  proto::Writer(data = {}).u16(1).u16(2).u16(3).raw(Bytes("\xc0\x23", 2));
  CHECK(error(dns_record("a", 33, 1, data)) == Reject::BadField);
  proto::Writer(data = {}).u16(1).u16(2).u16(3).raw(Bytes("\xff\xff", 2));
  CHECK(error(dns_record("a", 33, 1, data)) == Reject::BadField);

  reply.answers.assign(kMaxSrvRecords + 1, dns_srv("a", 60, 1, 2, 3, "b"));
  CHECK(parse_srv_reply(reply.bytes()).error() == Reject::TooLarge);
  reply.answers.pop_back();
  CHECK(parse_srv_reply(reply.bytes())->records.size() == kMaxSrvRecords);
}

TEST_CASE("damaged replies do no harm", "[dns]") {
  DnsReply good;
  good.question = kQuestion;
  good.answers = {dns_srv(kName, 60, 1, 2, 9940, "a.example.org"),
                  dns_srv(kName, 60, 1, 2, 9940, "b.example.org")};
  good.authorities = {dns_soa("example.org", 300, 120)};
  const Bytes bytes = good.bytes();
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 20000; ++i) {
    Bytes damaged = bytes;
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto parsed = parse_srv_reply(damaged);
    if (parsed) CHECK(parsed->records.size() <= 65535 / 18);
  }
}
