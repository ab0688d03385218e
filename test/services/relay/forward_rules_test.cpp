#include "services/relay/forward_rules.hpp"

#include "test/support/config_error.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using relay::ForwardRules;

namespace {

ForwardRules read(std::string_view text) {
  relay::Tokens tokens;
  tokens.add("inner", "a secret of twenty-eight bytes");
  return ForwardRules::read(base::Config::parse(text, "x.toml"), tokens);
}

std::string error_of(std::string_view text) {
  return test::config_error([text] { read(text); });
}

}  // namespace

TEST_CASE("nobody hands anything over but by a rule", "[forward]") {
  CHECK(read("").empty());
  CHECK_FALSE(read("").covers("192.0.2.7", ""));
  const ForwardRules rules = read(R"(
[[relay.forward]]
from = "192.0.2.0/24"
publishers = ["mirrord@*.example.org", "relayd@one.example.org"]
[[relay.forward]]
from = "token:inner"
publishers = ["other"]
)");
  CHECK_FALSE(rules.empty());
  CHECK(rules.covers("192.0.2.7", ""));
  CHECK(rules.covers("192.0.2.7", "", "mirrord@a.example.org"));
  CHECK(rules.covers("192.0.2.7", "", "relayd@one.example.org"));
  CHECK_FALSE(rules.covers("192.0.2.7", "", "relayd@two.example.org"));
  CHECK_FALSE(rules.covers("192.0.2.7", "", "other"));
  CHECK_FALSE(rules.covers("198.51.100.1", "", "mirrord@a.example.org"));
  CHECK_FALSE(rules.covers(":1000:1000:77", ""));
  CHECK(rules.covers("198.51.100.1", "inner", "other"));
  CHECK_FALSE(rules.covers("198.51.100.1", "inner", "mirrord@a.example.org"));
}

TEST_CASE("a rule that says nothing is an error", "[forward]") {
  CHECK(error_of("[[relay.forward]]\nfrom = \"ipc\"\n").find("publishers: must list") !=
        std::string::npos);
  CHECK(error_of("[[relay.forward]]\nfrom = \"nowhere\"\npublishers = [\"x\"]\n")
            .find("from: \"nowhere\" is neither") != std::string::npos);
  CHECK(error_of("[[relay.forward]]\nfrom = \"token:who\"\npublishers = [\"x\"]\n")
            .find("names no token") != std::string::npos);
}
