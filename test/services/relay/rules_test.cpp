#include "services/relay/rules.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::relay;

namespace {

bool covers(const std::string& from, const Client& client) {
  const auto rule = AllowRule::parse(from);
  REQUIRE(rule);
  return rule->covers(client);
}

Client https(const std::string& address, const std::string& token = "",
             std::vector<std::string> certificate = {}) {
  return {"https", address, token, std::move(certificate)};
}

AllowRule rule(const std::string& from, const std::string& topics) {
  auto rule = AllowRule::parse(from);
  REQUIRE(rule);
  rule->topics.push_back(*proto::TopicPattern::parse(topics));
  return std::move(*rule);
}

}  // namespace

TEST_CASE("a rule is for an address, a socket, a token or a certificate", "[relay]") {
  const Client local = Client::over_zeromq(":1000:1000:77", "");
  CHECK(covers("ipc", local));
  CHECK(covers("ipc", Client::over_zeromq("", "")));
  CHECK_FALSE(covers("0.0.0.0/0", local));
  CHECK_FALSE(covers("::/0", local));
  CHECK(covers("10.0.0.0/8", Client::over_zeromq("10.1.2.3", "")));
  CHECK(covers("10.0.0.0/8", https("10.1.2.3")));
  CHECK_FALSE(covers("10.0.0.0/8", https("11.1.2.3")));
  CHECK_FALSE(covers("ipc", https("10.1.2.3")));
  CHECK(covers("token:a", https("10.1.2.3", "a")));
  CHECK_FALSE(covers("token:a", https("10.1.2.3", "b")));
  CHECK_FALSE(covers("token:", https("10.1.2.3", "")));
  CHECK(covers("cert:b.example", https("10.1.2.3", "", {"a.example", "b.example"})));
  CHECK_FALSE(covers("cert:b.example", https("10.1.2.3", "b.example", {"a.example"})));
  CHECK_FALSE(covers("cert:*.example", https("10.1.2.3", "", {"a.example"})));
  CHECK_FALSE(covers("cert:A.example", https("10.1.2.3", "", {"a.example"})));
  CHECK_FALSE(AllowRule::parse("everybody"));
}

// Its address begins with ":", as that of a local socket does.
TEST_CASE("IPv6 loopback is an address and no local socket", "[relay]") {
  const Client client = Client::over_zeromq("::1", "");
  CHECK_FALSE(covers("ipc", client));
  CHECK(covers("::1", client));
  CHECK(client.submitter() == "tcp:::1");
  // An address that nobody can read is no local socket either.
  CHECK_FALSE(covers("ipc", Client::over_zeromq("fe80::1%eth0", "")));
}

TEST_CASE("an event says where it came from", "[relay]") {
  CHECK(Client::over_zeromq(":1000:1000:77", "").submitter() == "ipc:1000:1000:77");
  CHECK(Client::over_zeromq("", "a").submitter() == "ipc token:a");
  CHECK(Client::over_zeromq("10.1.2.3", "a").submitter() == "tcp:10.1.2.3 token:a");
  CHECK(https("2001:db8::1").submitter() == "https:2001:db8::1");
  CHECK(https("10.1.2.3", "a", {"b.example", "c.example"}).submitter() ==
        "https:10.1.2.3 token:a cert:b.example");
}

TEST_CASE("a client is known by its token, its certificate or its address", "[relay]") {
  CHECK(https("10.1.2.3").identity() == "10.1.2.3");
  CHECK(https("10.1.2.3", "", {"b.example"}).identity() == "cert:b.example");
  CHECK(https("10.1.2.3", "a", {"b.example"}).identity() == "token:a");
}

TEST_CASE("nothing is allowed that no rule allows, and some topics never", "[relay]") {
  RelayRules rules;
  rules.base = "org.example.dev";
  const Client client = https("10.1.2.3");
  CHECK_FALSE(rules.knows(client));
  rules.allow.push_back(rule("10.0.0.0/8", "org.example.dev.**"));
  CHECK(rules.knows(client));
  CHECK(rules.allow_topic(client, "org.example.dev.shell.x"));
  CHECK_FALSE(rules.allow_topic(https("11.1.2.3"), "org.example.dev.shell.x"));
  CHECK_FALSE(rules.allow_topic(client, "org.example.dev.mirror.tree.x.update"));
  CHECK_FALSE(rules.allow_topic(client, "org.example.dev.bus.publisher.start"));
  CHECK(rules.allow_topic(client, "org.example.dev.mirrors.x"));
}

TEST_CASE("a secret is one name's", "[relay]") {
  Tokens tokens;
  CHECK(tokens.add("a", "secret of a"));
  CHECK_FALSE(tokens.add("b", "secret of a"));
  CHECK(tokens.add("b", "secret of b"));
  CHECK(tokens.name_of("secret of b") == "b");
  CHECK(tokens.name_of("secret of").empty());
  CHECK(tokens.name_of("").empty());
  CHECK(tokens.contains("a"));
  CHECK_FALSE(tokens.contains("c"));
}
