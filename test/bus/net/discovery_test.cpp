#include "bus/net/discovery.hpp"

#include "bus/net/discovery_memory.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace std::chrono_literals;
using Query = DiscoveryCore::Query;
using Set = std::set<std::string>;
using List = std::vector<std::string>;

namespace {

const Query kPublishers{Query::Kind::Publishers, "_mirrorbus._tcp.example.org"};
const Query kSources{Query::Kind::Sources, "_mirrorbus-serve._tcp.example.org"};

SrvRecord record(const std::string& target, List addresses, std::uint16_t port = 9940,
                 std::uint16_t priority = 1) {
  return {priority, 0, port, target, std::move(addresses), true};
}
SrvAnswer good(std::vector<SrvRecord> records, base::Duration ttl = 100s) {
  return {DnsStatus::Ok, std::move(records), ttl, ""};
}
SrvAnswer failed() { return {DnsStatus::Failed, {}, {}, "timeout"}; }
SrvAnswer none(DnsStatus status, base::Duration ttl) { return {status, {}, ttl, ""}; }

// No randomness: always the largest draw, so a refresh comes at 0.8 of its time.
std::uint64_t most(std::uint64_t n) { return n; }
std::uint64_t least(std::uint64_t) { return 0; }

struct Core {
  explicit Core(DiscoveryOptions options = {{"example.org"}, {}}, RandomUpTo random = least)
      : core(std::move(options), std::move(random)) {}
  DiscoveryCore core;
  base::MonoTime now{1000s};

  // After these answers: when each question comes again.
  base::Duration answer(const Query& query, SrvAnswer a) {
    core.due(now);
    core.answered(query, std::move(a), now);
    for (base::Duration wait = 0s; wait < 3h; wait += 100ms) {
      DiscoveryCore copy = core;
      const auto due = copy.due(now + wait);
      if (std::ranges::find(due, query) != due.end()) return wait;
    }
    return base::Duration::max();
  }
};

}  // namespace

TEST_CASE("both names of each domain are asked at once", "[discovery]") {
  Core c({{"example.org", "example.net"}, {}});
  CHECK(c.core.next() <= c.now);
  CHECK(c.core.due(c.now).size() == 4);
  CHECK(c.core.due(c.now).empty());  // not again while they are asked
  CHECK_FALSE(c.core.next());
  CHECK_FALSE(c.core.settled());
}

TEST_CASE("every publisher, and sources in order, by number", "[discovery]") {
  Core c;
  c.core.due(c.now);
  c.core.answered(kPublishers,
                  good({record("a", {"192.0.2.1", "2001:db8::1"}), record("b", {"192.0.2.2"})}),
                  c.now);
  CHECK(c.core.publishers() ==
        Set{"tcp://192.0.2.1:9940", "tcp://192.0.2.2:9940", "tcp://[2001:db8::1]:9940"});
  CHECK_FALSE(c.core.settled());
  c.core.answered(
      kSources,
      good({record("far", {"192.0.2.9"}, 9941, 2), record("near", {"192.0.2.8"}, 9941, 1)}), c.now);
  CHECK(c.core.sources() == List{"tcp://192.0.2.8:9941", "tcp://192.0.2.9:9941"});
  CHECK(c.core.settled());
}

TEST_CASE("answers are refreshed before they end, within limits", "[discovery]") {
  CHECK(Core().answer(kPublishers, good({}, 100s)) == 100s);
  CHECK(Core({{"example.org"}, {}}, most).answer(kPublishers, good({}, 100s)) == 80s);
  CHECK(Core().answer(kPublishers, good({}, 1s)) == 2s);
  CHECK(Core().answer(kPublishers, good({}, 24h)) == 1h);
  CHECK(Core({{"example.org"}, {}}, most).answer(kPublishers, good({}, 24h)) == 48min);
  CHECK(Core().answer(kPublishers, none(DnsStatus::NxDomain, 10s)) == 10s);
  CHECK(Core().answer(kPublishers, none(DnsStatus::NoData, 24h)) == 60s);
  CHECK(Core().answer(kPublishers, none(DnsStatus::NoData, 0s)) == 30s);
  Core c;
  CHECK(c.answer(kPublishers, failed()) == 2s);
  for (const auto wait : {4s, 8s, 16s, 32s, 60s, 60s}) {
    c.now += 100s;
    CHECK(c.answer(kPublishers, failed()) == wait);
  }
}

TEST_CASE("failures change nothing", "[discovery]") {
  Core c;
  c.answer(kPublishers, good({record("a", {"192.0.2.1"})}));
  for (int i = 0; i < 20; ++i) {
    c.now += 1h;
    c.answer(kPublishers, failed());
    CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940"});
  }
  CHECK(c.core.infos()[0].stale);
  CHECK(c.core.infos()[0].error == "timeout");
  c.now += 1h;
  c.answer(kPublishers, good({record("b", {"192.0.2.2"})}));
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.2:9940"});
  CHECK_FALSE(c.core.infos()[0].stale);
}

TEST_CASE("a target that cannot be resolved keeps the addresses it had", "[discovery]") {
  Core c;
  c.answer(kPublishers, good({record("a", {"192.0.2.1"}), record("b", {"192.0.2.2"})}));
  SrvRecord lost = record("a", {});
  lost.resolved = false;
  c.now += 1h;
  c.answer(kPublishers, good({lost, record("b", {"192.0.2.3"})}));
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940", "tcp://192.0.2.3:9940"});
  c.now += 1h;
  c.answer(kPublishers, good({record("a", {}), record("b", {"192.0.2.3"})}));
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.3:9940"});
}

TEST_CASE("\"there is none\" is believed when said twice, a dot at once", "[discovery]") {
  for (const DnsStatus status : {DnsStatus::NxDomain, DnsStatus::NoData}) {
    Core c;
    c.answer(kPublishers, good({record("a", {"192.0.2.1"})}));
    c.now += 1h;
    c.answer(kPublishers, none(status, 5s));
    CHECK(c.core.publishers().size() == 1);
    c.now += 1h;
    c.answer(kPublishers, failed());  // does not count
    CHECK(c.core.publishers().size() == 1);
    c.now += 1h;
    c.answer(kPublishers, none(status, 5s));
    CHECK(c.core.publishers().empty());
  }
  Core c;
  c.answer(kPublishers, good({record("a", {"192.0.2.1"})}));
  c.now += 1h;
  c.answer(kPublishers, good({record(".", {})}));
  CHECK(c.core.publishers().empty());
}

TEST_CASE("the order of sources is drawn once for a set", "[discovery]") {
  std::uint64_t draws = 0;
  Core c({{"example.org"}, {}}, [&draws](std::uint64_t n) { return ++draws, n; });
  const auto a = record("a", {"192.0.2.1"}), b = record("b", {"192.0.2.2"});
  c.answer(kSources, good({a, b}));
  const List before = c.core.sources();
  const auto drawn = draws;
  c.now += 1h;
  c.core.due(c.now);
  c.core.answered(kSources, good({b, a}), c.now);
  CHECK(c.core.sources() == before);
  CHECK(draws == drawn + 1);  // for the time of the refresh only
}

TEST_CASE("static endpoints are merged in, first, and each appears once", "[discovery]") {
  Core c({{"example.org"},
          {{"tcp://192.0.2.1:9940", "tcp://192.0.2.1:9941"},
           {"ipc:///run/x", ""},
           {"", "tcp://near.example.org:1"}}});
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940", "ipc:///run/x"});
  CHECK(c.core.sources() == List{"tcp://192.0.2.1:9941"});
  const auto due = c.core.due(c.now);
  const Query host{Query::Kind::Host, "near.example.org"};
  CHECK(std::ranges::count(due, host) == 1);
  c.core.answered(host, HostAnswer{DnsStatus::Ok, {"192.0.2.5", "2001:db8::5"}, 60s, ""}, c.now);
  c.core.answered(kPublishers, good({record("a", {"192.0.2.1"}), record("b", {"192.0.2.1"})}),
                  c.now);
  c.core.answered(
      kSources, good({record("a", {"192.0.2.1"}, 9941), record("c", {"192.0.2.3"}, 9941)}), c.now);
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940", "ipc:///run/x"});
  CHECK(c.core.sources() == List{"tcp://192.0.2.1:9941", "tcp://192.0.2.5:1",
                                 "tcp://[2001:db8::5]:1", "tcp://192.0.2.3:9941"});
  // DNS taking it back leaves what is static.
  c.now += 1h;
  c.answer(kPublishers, good({}));
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940", "ipc:///run/x"});
}

TEST_CASE("other options keep the answers of what stays", "[discovery]") {
  Core c({{"example.org", "example.net"}, {}});
  c.answer(kPublishers, good({record("a", {"192.0.2.1"})}));
  c.answer({Query::Kind::Publishers, "_mirrorbus._tcp.example.net"},
           good({record("b", {"192.0.2.2"})}));
  CHECK(c.core.publishers().size() == 2);
  c.core.set_options({{"example.org", "example.com"}, {}});
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940"});
  const auto due = c.core.due(c.now);
  CHECK(due.size() == 2);
  // An answer that comes for what nobody wants any more is dropped.
  c.core.answered({Query::Kind::Publishers, "_mirrorbus._tcp.example.net"},
                  good({record("b", {"192.0.2.2"})}), c.now);
  CHECK(c.core.publishers() == Set{"tcp://192.0.2.1:9940"});
}

namespace {

// Answers as told, by way of the loop.
struct ScriptedResolver final : Resolver {
  explicit ScriptedResolver(base::Loop& l) : loop(l) {}
  void resolve_srv(const std::string& name,
                   std::move_only_function<void(SrvAnswer)> done) override {
    ++asked;
    loop.post([this, name, done = std::move(done)]() mutable { done(srv[name]); });
  }
  void resolve_host(const std::string&, std::move_only_function<void(HostAnswer)> done) override {
    loop.post([done = std::move(done)]() mutable { done(HostAnswer{}); });
  }
  base::Loop& loop;
  std::map<std::string, SrvAnswer> srv;
  int asked = 0;
};

}  // namespace

TEST_CASE("changes are told as they come", "[discovery]") {
  test::TestLoop t;
  base::Registry registry;
  ScriptedResolver resolver(t.loop);
  Set publishers;
  List sources;
  std::optional<Discovery> discovery;
  discovery.emplace(t.loop, resolver,
                    DiscoveryOptions{{"example.org"}, {{"tcp://192.0.2.7:1", ""}}},
                    Discovery::Handlers{
                        [&publishers](const std::string& e) { CHECK(publishers.insert(e).second); },
                        [&publishers](const std::string& e) { CHECK(publishers.erase(e) == 1); },
                        [&sources](const List& all) { sources = all; }},
                    registry, base::Log());
  t.settle();
  CHECK(publishers.empty());  // nothing before start()
  resolver.srv[kPublishers.name] = good({record("a", {"192.0.2.1"})}, 2s);
  resolver.srv[kSources.name] = good({record("a", {"192.0.2.1"}, 9941)});
  discovery->start();
  CHECK(publishers == Set{"tcp://192.0.2.7:1"});
  t.settle();
  CHECK(publishers == Set{"tcp://192.0.2.7:1", "tcp://192.0.2.1:9940"});
  CHECK(sources == List{"tcp://192.0.2.1:9941"});
  CHECK(resolver.asked == 2);
  discovery->set_options({{"example.org"}, {}});
  CHECK(publishers == Set{"tcp://192.0.2.1:9940"});
  discovery->set_options({{"example.net"}, {}});
  CHECK(publishers.empty());
  CHECK(sources.empty());
  discovery.reset();  // with questions under way
  t.settle();
}

TEST_CASE("what was known before a restart holds until DNS says otherwise", "[discovery]") {
  Core before;
  before.core.due(before.now);
  before.core.answered(kPublishers, good({record("a", {"192.0.2.1"}), record("b", {"2001:db8::1"})}),
                       before.now);
  before.core.answered(kSources, good({record("a", {"192.0.2.1"}, 9941)}), before.now);
  test::TempDir dir;
  write_discovery_memory(dir / "memory", before.core.held());
  const auto held = read_discovery_memory(dir / "memory");
  CHECK(held == before.core.held());

  Core after;
  after.core.remember(held);
  CHECK(after.core.publishers() == before.core.publishers());
  CHECK(after.core.sources() == before.core.sources());
  CHECK_FALSE(after.core.settled());
  after.answer(kPublishers, failed());
  CHECK(after.core.publishers() == before.core.publishers());
  after.answer(kPublishers, none(DnsStatus::NxDomain, 30s));
  CHECK(after.core.publishers() == before.core.publishers());
  after.now += 1h;
  after.answer(kPublishers, good({record("c", {"192.0.2.3"})}));
  CHECK(after.core.publishers() == Set{"tcp://192.0.2.3:9940"});

  SECTION("but not of a domain that is no longer asked") {
    Core other({{"example.net"}, {}});
    other.core.remember(held);
    CHECK(other.core.publishers().empty());
  }
}

TEST_CASE("a discovery memory that is none, or is not ours, is nothing", "[discovery]") {
  test::TempDir dir;
  CHECK(read_discovery_memory(dir / "none").empty());
  for (const char* text : {"", "{", "[]", "[1]", "{\"a\":1}", "[{\"kind\":\"publishers\"}]"}) {
    dir.write("memory", text);
    Core c;
    c.core.remember(read_discovery_memory(dir / "memory"));
    CHECK(c.core.publishers().empty());
  }
  // A name where an address must stand would have libzmq resolve it, on its I/O thread.
  dir.write("memory", R"([{"kind":"publishers","name":"_mirrorbus._tcp.example.org","records":[)"
                      R"({"port":1,"target":"a","addresses":["evil.example.org"]}]}])");
  Core c;
  c.core.remember(read_discovery_memory(dir / "memory"));
  CHECK(c.core.publishers().empty());
}
