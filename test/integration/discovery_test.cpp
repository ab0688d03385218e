// Discovery against a real DNS server that changes its mind.
#include "bus/net/discovery.hpp"

#include "test/support/knot_server.hpp"
#include "test/support/test_loop.hpp"

#include <set>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace std::chrono_literals;
using Set = std::set<std::string>;

namespace {

struct Fixture : test::TestLoop {
  // `first`: another server, to be asked before this one.
  explicit Fixture(const std::string& records, const test::KnotServer* first = nullptr)
      : knot(records) {
    DnsResolver::Options options;
    if (first) options.servers.push_back(first->address());
    options.servers.push_back(knot.address());
    options.timeout = 300ms;
    options.tries = 2;
    resolver.emplace(loop, options);
    discovery.emplace(
        loop, *resolver, DiscoveryOptions{{"example.org"}, {}},
        Discovery::Handlers{[this](const std::string& e) { CHECK(publishers.insert(e).second); },
                            [this](const std::string& e) { CHECK(publishers.erase(e) == 1); },
                            [this](const std::vector<std::string>& all) { sources = all; }},
        registry, base::Log());
    discovery->start();
  }
  bool see(const Set& expected) {
    return until([this, &expected] { return publishers == expected; });
  }

  test::KnotServer knot;
  base::Registry registry;
  std::optional<DnsResolver> resolver;
  std::optional<Discovery> discovery;
  Set publishers;
  std::vector<std::string> sources;
};

const std::string kHosts = "a A 127.0.0.1\nb A 127.0.0.2\nb AAAA ::1\n";

}  // namespace

TEST_CASE("discovery follows the zone", "[knot]") {
  if (!test::KnotServer::available()) {
    WARN("no knotd here: skipped");
    return;
  }
  Fixture f(kHosts +
            "_mirrorbus._tcp SRV 10 0 9940 a\n_mirrorbus._tcp SRV 10 0 9950 b\n"
            "_mirrorbus-serve._tcp SRV 20 0 9951 b\n_mirrorbus-serve._tcp SRV 10 0 9941 a\n");
  REQUIRE(f.see({"tcp://127.0.0.1:9940", "tcp://127.0.0.2:9950", "tcp://[::1]:9950"}));
  REQUIRE(f.until([&f] { return f.sources.size() == 3; }));
  CHECK(f.sources[0] == "tcp://127.0.0.1:9941");

  f.knot.change(kHosts +
                "_mirrorbus._tcp SRV 10 0 9940 a\n_mirrorbus._tcp SRV 10 0 9960 a\n"
                "_mirrorbus-serve._tcp SRV 0 0 0 .\n");
  REQUIRE(f.see({"tcp://127.0.0.1:9940", "tcp://127.0.0.1:9960"}));
  REQUIRE(f.until([&f] { return f.sources.empty(); }));

  // Gone altogether: believed when it has been said twice.
  f.knot.change(kHosts);
  REQUIRE(f.see({}));

  f.knot.change(kHosts + "_mirrorbus._tcp SRV 10 0 9940 a\n");
  REQUIRE(f.see({"tcp://127.0.0.1:9940"}));

  // Nobody answers any more: what is known stays.
  f.knot.stop();
  const auto failures = [&f] {
    return f.registry.counter("mirrorbus_dns_refresh_failures_total", "").value();
  };
  REQUIRE(f.until([&failures] { return failures() >= 2; }));
  CHECK(f.publishers == Set{"tcp://127.0.0.1:9940"});
}

TEST_CASE("another resolver is asked when the first is silent", "[knot]") {
  if (!test::KnotServer::available()) {
    WARN("no knotd here: skipped");
    return;
  }
  const std::string before = kHosts + "_mirrorbus._tcp SRV 10 0 9940 a\n";
  test::KnotServer first(before);
  Fixture f(kHosts + "_mirrorbus._tcp SRV 10 0 9950 a\n", &first);
  REQUIRE(f.see({"tcp://127.0.0.1:9940"}));  // it is the first that is asked
  first.stop();
  REQUIRE(f.see({"tcp://127.0.0.1:9950"}));
  f.knot.change(kHosts + "_mirrorbus._tcp SRV 10 0 9960 a\n");
  REQUIRE(f.see({"tcp://127.0.0.1:9960"}));
}

TEST_CASE("an answer too big for a datagram comes by TCP", "[knot]") {
  if (!test::KnotServer::available()) {
    WARN("no knotd here: skipped");
    return;
  }
  std::string records = "a A 127.0.0.1\n";
  Set expected;
  for (int i = 0; i < 300; ++i) {
    records += fmt::format("_mirrorbus._tcp SRV 10 0 {} a\n", 10000 + i);
    expected.insert(fmt::format("tcp://127.0.0.1:{}", 10000 + i));
  }
  Fixture f(records);
  CHECK(f.see(expected));
}
