#include "services/mirror/transfer_rates.hpp"

#include "bus/base/config.hpp"
#include "bus/net/http_server.hpp"
#include "proto/sha256.hpp"
#include "services/mirror/http_source.hpp"
#include "services/mirror/transfer_line.hpp"
#include "services/mirror/transfer_settings.hpp"
#include "services/tree/progress.hpp"
#include "test/services/mirror/virtual_clock.hpp"

#include <cstdlib>
#include <ctime>
#include <thread>

#include <fmt/core.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using mirror::RatePlan;
using mirror::TransferRates;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// Bytes that each line gets in `span` when it takes pieces as fast as it may; a line that begins
// late begins after that time.
std::vector<std::uint64_t> drive(TransferRates& rates, test::VirtualClock& clock,
                                 const std::vector<std::size_t>& lines, base::Duration span,
                                 base::Duration late = {}) {
  std::vector<std::uint64_t> got(lines.size());
  std::vector<base::MonoTime> next(lines.size(), clock.time.mono);
  next.back() += late;
  const base::MonoTime end = clock.time.mono + span;
  for (;;) {
    const auto first = std::ranges::min_element(next);
    if (*first >= end) return got;
    clock.pass(*first - clock.time.mono);
    const auto which = static_cast<std::size_t>(first - next.begin());
    const auto wait = rates.take(lines[which], 64 * 1024, clock.now());
    if (!wait) return got;
    got[which] += 64 * 1024;
    *first = clock.time.mono + *wait;
  }
}

double mib_per_second(std::uint64_t bytes, base::Duration span) {
  return static_cast<double>(bytes) / static_cast<double>(kMiB) / base::to_seconds(span);
}

}  // namespace

TEST_CASE("a tree's rate is held", "[rates]") {
  test::VirtualClock clock;
  TransferRates rates({});
  const auto line = rates.add({.usual = 2 * kMiB}, 5);
  for (const auto span : {3s, 30s}) {
    const auto got = drive(rates, clock, {line}, span);
    CHECK(mib_per_second(got[0], span) == Approx(2).epsilon(0.15));
    clock.pass(1h);  // a rest gives no right to more than a moment's burst
  }
}

TEST_CASE("the site's rate is shared by priority, and what one does not use others have",
          "[rates]") {
  test::VirtualClock clock;
  TransferRates rates({.usual = 4 * kMiB});
  const auto low = rates.add({}, 2);
  const auto high = rates.add({}, 6);
  const auto both = drive(rates, clock, {low, high}, 10s);
  CHECK(mib_per_second(both[0], 10s) == Approx(1).epsilon(0.15));
  CHECK(mib_per_second(both[1], 10s) == Approx(3).epsilon(0.15));
  clock.pass(10s);
  const auto alone = drive(rates, clock, {low}, 10s);
  CHECK(mib_per_second(alone[0], 10s) == Approx(4).epsilon(0.15));
}

TEST_CASE("without any limit nobody waits", "[rates]") {
  test::VirtualClock clock;
  TransferRates rates({});
  const auto line = rates.add({}, 5);
  CHECK(rates.take(line, 1000 * kMiB, clock.now()) == base::Duration{});
}

TEST_CASE("the day has hours", "[rates]") {
  const RatePlan plan{.usual = 100, .hours = {{480, 1080, 50}, {1320, 360, 0}}};
  CHECK(plan.at(479) == 100);
  CHECK(plan.at(480) == 50);
  CHECK(plan.at(1079) == 50);
  CHECK(plan.at(1080) == 100);
  CHECK(plan.at(1320) == 0);
  CHECK(plan.at(0) == 0);
  CHECK(plan.at(359) == 0);
  CHECK(plan.at(360) == 100);
  CHECK(RatePlan{}.at(0) == std::nullopt);
  CHECK(RatePlan{.usual = {}, .hours = {{0, 0, 7}}}.at(700) == 7);  // the whole day
}

TEST_CASE("hours are those of the local clock", "[rates]") {
  const char* before = std::getenv("TZ");
  const std::string kept = before ? before : "";
  ::setenv("TZ", "XYZ-3:30", 1);
  ::tzset();
  CHECK(mirror::local_minute(base::WallTime(1'700'000'040s)) == (22 * 60 + 14 + 210) % 1440);
  before ? ::setenv("TZ", kept.c_str(), 1) : ::unsetenv("TZ");
  ::tzset();
}

TEST_CASE("outside of its hours nothing is taken, and what waits is let go", "[rates]") {
  test::VirtualClock clock;
  const unsigned now = mirror::local_minute(clock.time.wall);
  TransferRates rates({});
  const auto line =
      rates.add({.usual = {}, .hours = {{(now + 1) % 1440, (now + 2) % 1440, 0}}}, 5);
  CHECK(rates.open(line, clock.now()));
  clock.pass(1min);
  CHECK_FALSE(rates.open(line, clock.now()));
  CHECK(rates.take(line, 1, clock.now()) == std::nullopt);
  mirror::TransferLine waits(rates, line, clock, 0);
  const std::atomic<bool> cancel{false};
  CHECK_THROWS_AS(waits.took(1, cancel), tree::Cancelled);
  clock.pass(1min);
  CHECK(rates.open(line, clock.now()));
}

TEST_CASE("rates and hours are read, and refused by name", "[rates]") {
  const auto read = [](const std::string& text) {
    const auto config = base::Config::parse("[transfer]\n" + text, "x.toml");
    return mirror::TransferSettings::read(config.table("transfer"));
  };
  const auto good = read("bandwidth = \"2MiB\"\ndscp = 8\n"
                         "schedule = [{ from = \"08:00\", to = \"18:30\", bandwidth = \"1MiB\" },"
                         " { from = \"22:00\", to = \"24:00\", bandwidth = \"0\" }]\n");
  CHECK(good.rates.usual == 2 * kMiB);
  CHECK(good.rates.at(18 * 60) == kMiB);
  CHECK(good.rates.at(23 * 60) == 0);
  CHECK(good.rates.at(60) == 2 * kMiB);
  CHECK(good.dscp == 8);
  CHECK_FALSE(read("bandwidth = \"0\"").rates.usual);
  // As rsync --bwlimit reads them.
  for (const auto& [text, rate] : std::vector<std::pair<std::string, std::uint64_t>>{
           {"2m", 2 * kMiB}, {"1.5m", 3 * kMiB / 2}, {"512", 512 * 1024}, {"512k", 512 * 1024},
           {"1.5", 0}, {"500KB", 500'000}, {"4096b", 4096}}) {
    CAPTURE(text);
    const auto line = "bandwidth = \"" + text + "\"";
    if (rate > 0)
      CHECK(read(line).rates.usual == rate);
    else
      CHECK_THROWS_AS(read(line), base::ConfigError);
  }
  for (const char* bad :
       {"bandwidth = \"1kB\"", "bandwidth = \"fast\"", "bandwidth = \"3\"", "dscp = 64",
        "schedule = [{ from = \"8:00\", to = \"18:00\" }]",
        "schedule = [{ from = \"08:00\", to = \"18:60\", bandwidth = \"1MiB\" }]",
        "schedule = [{ from = \"08:00\", to = \"18:00\" }]"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(read(bad), base::ConfigError);
  }
}

TEST_CASE("a real transfer is held to its rate", "[rates]") {
  base::SystemClock clock;
  base::Loop loop(clock);
  base::Registry registry;
  net::HttpOptions options;
  options.name = "test";
  options.listen = "127.0.0.1:0";
  net::HttpServer server(loop, options, registry, base::Log());
  const proto::Bytes content(6 * kMiB, 'x');
  server.route("/objects/", [&](const net::HttpRequest&, net::HttpReply reply) {
    net::HttpResponse response;
    response.body = content;
    reply(std::move(response));
  });
  std::thread thread([&] { loop.run(); });
  TransferRates rates({.usual = 3 * kMiB});
  mirror::TransferLine line(rates, rates.add({}, 5), clock, 0);
  mirror::HttpSource source(fmt::format("http://127.0.0.1:{}", server.port()),
                            mirror::SourceReach::anywhere(), &line);
  struct Sink final : tree::ContentSink {
    void begin(const proto::Hash&) override {}
    void write(proto::ByteView bytes) override { got += bytes.size(); }
    void end() override {}
    void gone(const proto::Hash&, const std::string&) override {}
    std::uint64_t got = 0;
  } sink;
  const base::MonoTime begun = clock.now().mono;
  source.fetch_range({proto::sha256(content), content.size()}, 0, sink);
  const base::Duration took = clock.now().mono - begun;
  loop.stop();
  thread.join();
  CHECK(sink.got == content.size());
  CHECK(mib_per_second(sink.got, took) == Approx(3).epsilon(0.15));
}
