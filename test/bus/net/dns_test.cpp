// The resolver against a server made for the occasion: one UDP socket, answers by hand.
#include "bus/net/dns.hpp"

#include "bus/base/fd.hpp"
#include "test/support/dns_bytes.hpp"
#include "test/support/test_loop.hpp"

#include <functional>
#include <optional>

#include <arpa/inet.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace mirrorbus::test;
using namespace std::chrono_literals;
using proto::Bytes;

namespace {

struct Question {
  std::uint16_t id;
  std::string name;
  std::uint16_t type;
  Bytes bytes;  // as it stands in the message
};

struct Fixture : TestLoop {
  Fixture() {
    socket = base::Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
    server = fmt::format("127.0.0.1:{}", ntohs(address.sin_port));
    watch.emplace(loop, socket.get(), [this](bool, bool) { serve(); });
    watch->want(true, false);
    DnsResolver::Options options;
    options.servers = {server};
    options.timeout = 50ms;
    options.tries = 2;
    resolver.emplace(loop, options);
  }

  void serve() {
    char block[2048];
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        ::recvfrom(socket.get(), block, sizeof block, 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 12) return;
    proto::Reader in(std::string_view(block, static_cast<std::size_t>(got)));
    Question question;
    question.id = in.u16();
    in.raw(10);
    const auto rest = in.rest();
    while (const std::uint8_t length = in.u8())
      question.name += (question.name.empty() ? "" : ".") + Bytes(in.raw(length));
    question.type = in.u16();
    in.u16();
    question.bytes = rest.substr(0, rest.size() - in.rest().size());
    ++asked;
    if (const auto reply = answer(question))
      ::sendto(socket.get(), reply->data(), reply->size(), 0, reinterpret_cast<sockaddr*>(&from),
               size);
  }
  DnsReply reply_to(const Question& q, std::uint16_t rcode = 0) const {
    DnsReply reply;
    reply.id = q.id;
    reply.rcode = rcode;
    reply.question = q.bytes;
    return reply;
  }

  SrvAnswer srv(const std::string& name) {
    std::optional<SrvAnswer> result;
    resolver->resolve_srv(name, [&result](SrvAnswer a) { result = std::move(a); });
    CHECK_FALSE(result);  // never at once
    REQUIRE(until([&result] { return result.has_value(); }));
    return *result;
  }
  HostAnswer host(const std::string& name) {
    std::optional<HostAnswer> result;
    resolver->resolve_host(name, [&result](HostAnswer a) { result = std::move(a); });
    REQUIRE(until([&result] { return result.has_value(); }));
    return *result;
  }

  base::Fd socket;
  std::string server;
  std::optional<base::FdWatch> watch;
  std::optional<DnsResolver> resolver;
  std::function<std::optional<Bytes>(const Question&)> answer = [](const Question&) {
    return std::nullopt;
  };
  int asked = 0;
};

const Bytes kV4 = Bytes("\xc0\x00\x02\x01", 4);
const Bytes kV6 = Bytes("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);

}  // namespace

TEST_CASE("SRV records come with the addresses of their targets and the least TTL", "[dns]") {
  Fixture f;
  f.answer = [&f](const Question& q) {
    DnsReply reply = f.reply_to(q);
    if (q.type == 33)
      reply.answers = {dns_srv(q.name, 300, 1, 2, 9940, "a.example.org"),
                       dns_srv(q.name, 300, 1, 2, 9950, "a.example.org"),
                       dns_srv(q.name, 300, 3, 4, 9940, "none.example.org")};
    else if (q.name == "a.example.org")
      reply.answers = {dns_record(q.name, q.type, q.type == 1 ? 120 : 90, q.type == 1 ? kV4 : kV6)};
    else
      reply.authorities = {dns_soa("example.org", 60, 60)};
    return reply.bytes();
  };
  SrvAnswer answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::Ok);
  CHECK(answer.ttl == 90s);
  REQUIRE(answer.records.size() == 3);
  for (SrvRecord& r : answer.records) std::ranges::sort(r.addresses);
  CHECK(answer.records[0].addresses == std::vector<std::string>{"192.0.2.1", "2001:db8::1"});
  CHECK(answer.records[1].addresses.size() == 2);
  CHECK(answer.records[1].port == 9950);
  CHECK(answer.records[2].addresses.empty());
  CHECK(answer.records[2].resolved);
}

TEST_CASE("negative answers are told apart and say how long they hold", "[dns]") {
  Fixture f;
  std::uint16_t rcode = 3;
  f.answer = [&f, &rcode](const Question& q) {
    DnsReply reply = f.reply_to(q, rcode);
    reply.authorities = {dns_soa("example.org", 300, 17)};
    return reply.bytes();
  };
  SrvAnswer answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::NxDomain);
  CHECK(answer.ttl == 17s);
  CHECK(f.host("a.example.org").status == DnsStatus::NxDomain);
  rcode = 0;
  answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::NoData);
  CHECK(answer.ttl == 17s);
}

TEST_CASE("silence, refusals and nonsense are failures with a reason", "[dns]") {
  Fixture f;
  const auto start = std::chrono::steady_clock::now();
  SrvAnswer answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::Failed);
  CHECK_THAT(answer.error, Catch::Contains("Timeout"));
  CHECK(f.asked == 2);
  CHECK(std::chrono::steady_clock::now() - start >= 100ms);

  f.answer = [&f](const Question& q) { return f.reply_to(q, 2).bytes(); };
  CHECK(f.srv("_mirrorbus._tcp.example.org").status == DnsStatus::Failed);
  f.answer = [&f](const Question& q) {
    DnsReply reply = f.reply_to(q);
    reply.answers = {dns_srv(q.name, 1, 2, 3, 4, "target")};
    return reply.bytes().substr(0, reply.bytes().size() - 3);
  };
  answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::Failed);
  CHECK_THAT(answer.error, Catch::Contains("truncated"));
  CHECK(f.srv("bad..name").status == DnsStatus::Failed);
}

TEST_CASE("a target whose address cannot be asked for is marked", "[dns]") {
  Fixture f;
  f.answer = [&f](const Question& q) -> std::optional<Bytes> {
    if (q.type != 33) return std::nullopt;
    DnsReply reply = f.reply_to(q);
    reply.answers = {dns_srv(q.name, 300, 1, 2, 9940, "a.example.org")};
    return reply.bytes();
  };
  const SrvAnswer answer = f.srv("_mirrorbus._tcp.example.org");
  CHECK(answer.status == DnsStatus::Ok);
  REQUIRE(answer.records.size() == 1);
  CHECK_FALSE(answer.records[0].resolved);
}

TEST_CASE("a single dot needs no addresses", "[dns]") {
  Fixture f;
  f.answer = [&f](const Question& q) {
    DnsReply reply = f.reply_to(q);
    reply.answers = {dns_srv(q.name, 300, 0, 0, 0, ".")};
    return reply.bytes();
  };
  const SrvAnswer answer = f.srv("_mirrorbus._tcp.example.org");
  REQUIRE(answer.records.size() == 1);
  CHECK(answer.records[0].target == ".");
  CHECK(f.asked == 1);
}

TEST_CASE("localhost and plain addresses are known without asking", "[dns]") {
  Fixture f;
  for (const char* name : {"localhost", "a.localhost"}) {
    const HostAnswer answer = f.host(name);
    CHECK(answer.status == DnsStatus::Ok);
    CHECK(answer.addresses == std::vector<std::string>{"127.0.0.1", "::1"});
  }
  CHECK(f.host("192.0.2.3").addresses == std::vector<std::string>{"192.0.2.3"});
  CHECK(f.asked == 0);
}

TEST_CASE("a resolver may go with questions under way", "[dns]") {
  Fixture f;
  bool answered = false;
  f.resolver->resolve_srv("_mirrorbus._tcp.example.org",
                          [&answered](SrvAnswer) { answered = true; });
  f.resolver->resolve_host("a.example.org", [&answered](HostAnswer) { answered = true; });
  REQUIRE(f.until([&f] { return f.asked > 0; }));
  f.resolver.reset();
  f.settle();
  CHECK_FALSE(answered);
}

TEST_CASE("servers must be addresses", "[dns]") {
  TestLoop t;
  DnsResolver::Options options;
  options.servers = {"not an address"};
  CHECK_THROWS_WITH(DnsResolver(t.loop, options), Catch::Contains("not an address"));
}
