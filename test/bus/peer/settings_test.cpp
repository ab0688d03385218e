#include "bus/peer/settings.hpp"

#include "test/support/config_error.hpp"
#include "test/support/temp_dir.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace std::chrono_literals;

namespace {

Settings read(std::string_view text) {
  const base::Config config = base::Config::parse(text, "x.toml");
  Settings settings = Settings::read(config, "mirrord");
  config.finish();
  return settings;
}

std::string error_of(std::string_view text) {
  return test::config_error([text] { read(text); });
}

}  // namespace

TEST_CASE("the documented tables are read", "[settings]") {
  const Settings s = read(R"(
[bus]
prefix = "org.example"
environment = "stg"
publisher = "mirrord@origin1.example.org"
state = "/var/lib/mirrorbus/origin1/"
publish = "tcp://127.0.0.1:9940"
serve = "tcp://127.0.0.1:9941"
advertise_publish = "tcp://192.0.2.1:9940"
advertise_content = "http://192.0.2.1:9944"
durability = "off"
log_level = "debug"
gap_after = "5s"
retain = "1h"
retain_bytes = "1GB"
[discovery]
domains = ["example.org"]
resolvers = ["127.0.0.1:15353", "::1"]
static = [{ publish = "tcp://127.0.0.1:9950", serve = "tcp://127.0.0.1:9951" }]
[signing]
scheme = "openpgp"
key = "0123"
home = "/etc/mirrorbus/gnupg"
[trust]
home = "/etc/mirrorbus/gnupg"
[[trust.allow]]
topics = ["org.example.*.mirror.**"]
keys = ["openpgp:0123456789abcdef0123456789abcdef01234567"]
publishers = ["mirrord@*"]
[[trust.allow]]
topics = ["org.example.dev.**"]
unsigned = true
[http]
listen = "127.0.0.1:9942"
[content]
listen = ":9944"
connections_per_peer = 8
)");
  CHECK(s.bus.base() == "org.example.stg");
  CHECK(s.bus.publisher == "mirrord@origin1.example.org");
  CHECK(s.bus.state == "/var/lib/mirrorbus/origin1");
  CHECK_FALSE(s.bus.durable);
  CHECK(s.bus.log_level == base::LogLevel::Debug);
  CHECK(s.bus.gap_after == 5s);
  CHECK(s.bus.retain == 1h);
  CHECK(s.bus.retain_bytes == 1'000'000'000);
  CHECK(s.discovery.resolvers.size() == 2);
  REQUIRE(s.discovery.fixed.size() == 1);
  CHECK(s.discovery.fixed[0].serve == "tcp://127.0.0.1:9951");
  CHECK(s.signing.scheme == "openpgp");
  CHECK(s.signing.lifetime == 24h);
  REQUIRE(s.trust.allow.size() == 2);
  CHECK(s.trust.allow[0].publishers == std::vector<std::string>{"mirrord@*"});
  CHECK(s.trust.allow[1].unsigned_streams);
  CHECK(s.http.listen == "127.0.0.1:9942");
  CHECK(s.content.connections_per_peer == 8);
}

TEST_CASE("the defaults are the documented ones", "[settings]") {
  const Settings s = read("[bus]\nprefix = \"org.example\"\n");
  CHECK(s.bus.environment == "dev");
  CHECK(s.bus.publisher == "mirrord@" + full_host_name());
  CHECK(s.bus.durable);
  CHECK(s.bus.log_level == base::LogLevel::Notice);
  CHECK(s.bus.gap_after == 60s);
  CHECK(s.signing.scheme == "none");
  CHECK(s.trust.allow.empty());
  CHECK(s.http.listen.empty());
}

TEST_CASE("each table refuses what cannot work", "[settings]") {
  const std::string bus = "[bus]\nprefix = \"org.example\"\n";
  CHECK(error_of("") == "x.toml: [bus] prefix: is required");
  for (const char* prefix : {"", ".a", "a.", "a..b", "Org", "a b", "a/b"})
    CHECK_THAT(error_of(std::string("[bus]\nprefix = \"") + prefix + "\"\n"),
               Catch::Contains("x.toml:2: [bus] prefix: must be words"));
  const std::pair<std::string, std::string> cases[] = {
      {"environment = \"prod\"", "[bus] environment: \"prod\" is not one of dev, stg, production"},
      {"publisher = \"a b\"", "[bus] publisher: must be"},
      {"state = \"relative\"", "[bus] state: \"relative\" must be an absolute path"},
      {"forward = [\"relay.example.org\"]",
       "[bus] forward: \"relay.example.org\" is not the serve endpoint of a relay"},
      {"forward = [\"tcp://*:1\"]", "is not the serve endpoint of a relay"},
      {"forward = [\"tcp://r:1\", \"tcp://r:1\"]", "[bus] forward: names \"tcp://r:1\" twice"},
      {"publish = \"127.0.0.1:1\"", "[bus] publish: \"127.0.0.1:1\" is not an endpoint"},
      {"advertise_content = \"ftp://x\"", "[bus] advertise_content: \"ftp://x\" is not an address"},
      {"durability = \"maybe\"", "[bus] durability: \"maybe\" is not one of full, off"},
      {"log_level = \"loud\"", "[bus] log_level: \"loud\" is not one of"},
      {"[discovery]\ndomains = [\"a b\"]", "[discovery] domains: \"a b\" is not a domain name"},
      {"[discovery]\nresolvers = [\"localhost:53\"]",
       "[discovery] resolvers: \"localhost:53\" must be"},
      {"[discovery]\nstatic = [{}]", "[[discovery.static]]: needs publish, serve or both"},
      {"[discovery]\nstatic = [{ publsh = \"tcp://a:1\", serve = \"tcp://a:1\" }]",
       "[[discovery.static]] publsh: unknown key"},
      {"[signing]\nscheme = \"openpgp\"", "[signing] key: is required"},
      {"[signing]\nscheme = \"openpgp\"\nkey = \"1\"", "[signing] home: is required"},
      {"[signing]\nscheme = \"x509\"\nkey = \"1\"", "[signing] certificate: is required"},
      {"[[trust.allow]]\nkeys = [\"0123456789abcdef0123456789abcdef01234567\"]",
       "[[trust.allow]] topics: is required"},
      {"[[trust.allow]]\ntopics = [\"a\"]", "[[trust.allow]] keys: is required"},
      {"[[trust.allow]]\ntopics = [\"a\"]\nkeys = "
       "[\"0123456789abcdef0123456789abcdef01234567\"]\nunsigned = true",
       "[[trust.allow]] unsigned: a rule is for keys or"},
      {"[[trust.allow]]\ntopics = [\"a..b\"]", "topics: \"a..b\" is not a topic pattern"},
      {"[[trust.allow]]\ntopics = [\"a\"]\nkeys = [\"0123\"]",
       "keys: \"0123\" is not a full fingerprint"},
      {"[http]", "[http] listen: is required"},
      {"[http]\nlisten = \"host:1\"", "[http] listen: \"host:1\" must be ADDRESS:PORT"},
      {"[http]\nlisten = \"80\"", "[http] listen: \"80\" must be ADDRESS:PORT"},
      {"[discoverie]", "[discoverie]: unknown table"},
      {"[bus.more]", "[bus.more]: unknown table"},
  };
  for (const auto& [text, expected] : cases)
    CHECK_THAT(error_of(bus + text + "\n"), Catch::Contains(expected));
}

TEST_CASE("a bind address is advertised only where it says where we are", "[settings]") {
  CHECK(advertised("tcp://127.0.0.1:9940", "") == "tcp://127.0.0.1:9940");
  CHECK(advertised("tcp://127.0.0.1:9940", "tcp://a:1") == "tcp://a:1");
  for (const char* bound :
       {"", "tcp://0.0.0.0:9940", "tcp://[::]:9940", "tcp://*:9940", "ipc:///x"})
    CHECK(advertised(bound, "").empty());
}

TEST_CASE("a token is the first line of its file", "[settings]") {
  const mirrorbus::test::TempDir dir;
  CHECK(read_token(dir.write("token", "secret of mine\nanother line\n")) == "secret of mine");
  CHECK(read_token(dir.write("token", "without an end")) == "without an end");
  CHECK(read_token(dir.write("token", "\nsecret")) == "");
  CHECK_FALSE(read_token(dir.write("token", "")));
  CHECK_FALSE(read_token(dir / "none"));
}
