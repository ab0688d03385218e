#include "services/mirror/pull_desk.hpp"

#include "services/mirror/tree_role.hpp"
#include "test/services/mirror/virtual_clock.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <queue>
#include <random>

#include <fmt/core.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using mirror::PullDesk;
using Pull = proto::HaveAnswer::Pull;

namespace {

proto::Bytes run_of(int number) {
  proto::Bytes run = std::to_string(number);
  run.resize(proto::kRunSize, '-');
  return run;
}
PullDesk::Asker asker(int number) {
  return {"10.0." + std::to_string(number / 256) + "." + std::to_string(number % 256),
          run_of(number)};
}
std::string url_of(int number) { return "http://mirror" + std::to_string(number); }

struct Desk {
  PullDesk desk;
  test::VirtualClock clock;
  PullDesk::Verdict said(int who, std::uint64_t number, std::uint64_t want) {
    return said(who, number, want, url_of(who));
  }
  PullDesk::Verdict said(int who, std::uint64_t number, std::uint64_t want,
                         const std::string& content) {
    return desk.said(asker(who), number, want, content, 7, clock.time.mono);
  }
};

}  // namespace

TEST_CASE("a few pull here, then those who have it are named", "[desk]") {
  Desk d;
  CHECK(d.said(1, 0, 7).pull == Pull::Here);
  CHECK(d.said(2, 0, 7).pull == Pull::Here);
  CHECK(d.said(3, 0, 7).pull == Pull::Later);
  CHECK(d.said(1, 0, 7).pull == Pull::Here);  // is at it
  CHECK(d.said(1, 7, 0).pull == Pull::None);
  CHECK(d.said(3, 0, 7).pull == Pull::Here);  // the third of four
  CHECK(d.said(2, 7, 0).pull == Pull::None);
  CHECK(d.said(3, 7, 0).pull == Pull::None);
  CHECK(d.said(4, 0, 7).pull == Pull::Here);
  const auto fifth = d.said(5, 0, 7);
  REQUIRE(fifth.pull == Pull::Others);
  CHECK(fifth.sources.size() == 3);
  CHECK(d.said(5, 0, 7).sources == std::vector<std::string>{fifth.sources.front()});
  // Nobody is sent to himself, and no more than two to one.
  for (int who = 6; who < 11; ++who) CHECK(d.said(who, 0, 7).pull == Pull::Others);
  CHECK(d.said(11, 0, 7).pull == Pull::Later);
}

TEST_CASE("a place of one that is silent is another's", "[desk]") {
  Desk d;
  d.said(1, 0, 7);
  d.said(2, 0, 7);
  CHECK(d.said(3, 0, 7).pull == Pull::Later);
  d.clock.pass(PullDesk::kLease / 2);
  d.said(2, 0, 7);
  d.clock.pass(PullDesk::kLease / 2);
  CHECK(d.said(3, 0, 7).pull == Pull::Here);
  CHECK(d.said(4, 0, 7).pull == Pull::Later);
}

TEST_CASE("who was sent to one that hands out nothing any more is sent to another", "[desk]") {
  Desk d;
  for (int who = 1; who < 4; ++who) {
    d.said(who, 0, 7);
    d.said(who, 7, 0);
  }
  d.said(4, 0, 7);  // the last of those who pull here
  const auto sent = d.said(5, 0, 7);
  REQUIRE(sent.pull == Pull::Others);
  for (int who = 1; who < 4; ++who)
    if (url_of(who) == sent.sources.front()) d.said(who, 7, 0, "");
  const auto again = d.said(5, 0, 7);
  REQUIRE(again.pull == Pull::Others);
  CHECK(again.sources.size() == 2);
  CHECK(std::ranges::find(again.sources, sent.sources.front()) == again.sources.end());
  CHECK(std::ranges::find(again.sources, "") == again.sources.end());
}

TEST_CASE("who starts again goes on with the place that he has, and with no other", "[desk]") {
  Desk d;
  const auto at_one = [&](int run) {
    return d.desk.said({"192.0.2.1", run_of(run)}, 0, 7, "", 7, d.clock.time.mono);
  };
  CHECK(at_one(1).pull == Pull::Here);
  CHECK(d.said(2, 0, 7).pull == Pull::Here);
  d.clock.pass(PullDesk::kLease / 2);
  CHECK(d.said(2, 0, 7).pull == Pull::Here);
  CHECK(at_one(1).pull == Pull::Here);   // under the number that it kept
  CHECK(at_one(3).pull == Pull::Later);  // under another it waits for itself
  CHECK(d.said(4, 0, 7).pull == Pull::Later);  // the two places are one's and the other's
  CHECK(d.desk.peers() == 4);
}

TEST_CASE("who wants what nobody has puts off nobody", "[desk]") {
  Desk d;
  CHECK(d.said(99, 0, UINT64_MAX).pull == Pull::Later);
  for (int who = 1; who < 5; ++who) {
    CHECK(d.desk.said(asker(who), 0, 6, url_of(who), 6, d.clock.time.mono).pull == Pull::Here);
    d.said(who, 6, 0);
  }
  // A new version: as for every one, the first few pull here.
  for (int who = 1; who < 3; ++who) CHECK(d.said(who, 6, 7).pull == Pull::Here);
}

TEST_CASE("who is slow keeps its place and holds up nobody", "[desk]") {
  Desk d;
  for (int who = 1; who < 5; ++who) {  // the first few, who serve nobody
    CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
    if (who > 1) d.said(who, 7, 0, "");
  }
  CHECK(d.said(5, 0, 7, "").pull == Pull::Here);
  for (auto waited = base::Duration{}; waited < PullDesk::kSlow; waited += 2s) {
    CHECK(d.said(6, 0, 7).pull == Pull::Later);
    d.clock.pass(2s);
    for (int who : {1, 5}) CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
  }
  CHECK(d.said(6, 0, 7).pull == Pull::Here);
  CHECK(d.said(7, 0, 7).pull == Pull::Later);
  for (int who : {1, 5}) CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
}

TEST_CASE("after the first few two at a time, but beside one that will serve nobody", "[desk]") {
  Desk d;
  for (int who = 1; who < 5; ++who) {
    CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
    d.said(who, 7, 0, "");
  }
  CHECK(d.said(5, 0, 7, "").pull == Pull::Here);
  CHECK(d.said(6, 0, 7, "").pull == Pull::Here);
  CHECK(d.said(7, 0, 7).pull == Pull::Later);
  d.said(6, 7, 0, "");
  CHECK(d.said(7, 0, 7).pull == Pull::Here);
  d.said(5, 7, 0, "");
  CHECK(d.said(8, 0, 7, "").pull == Pull::Later);
  d.said(7, 7, 0);
  CHECK(d.said(8, 0, 7, "").pull == Pull::Others);
}

TEST_CASE("a place is for one version", "[desk]") {
  Desk d;
  CHECK(d.said(20, 0, 6).pull == Pull::Here);
  for (int who = 1; who < 5; ++who) {
    CHECK(d.said(who, 0, 7).pull == Pull::Here);
    d.said(who, 7, 0);
  }
  CHECK(d.said(20, 0, 6).pull == Pull::Here);  // is at it
  CHECK(d.said(20, 0, 7).pull == Pull::Others);
}

TEST_CASE("nobody is let in for a version that is not here, nor sent to who is forgotten",
          "[desk]") {
  Desk d;
  CHECK(d.said(1, 0, 8).pull == Pull::Later);
  CHECK(d.said(2, 8, 0).pull == Pull::None);
  CHECK(d.said(1, 0, 8).pull == Pull::Others);
  d.clock.pass(PullDesk::kForget + 1s);
  CHECK(d.said(3, 0, 8).pull == Pull::Later);
}

TEST_CASE("no more peers are remembered than fit", "[desk]") {
  Desk d;
  for (int who = 0; who < 5000; ++who) d.said(who, 7, 0);
  CHECK(d.desk.peers() == PullDesk::kMostPeers);
  d.clock.pass(PullDesk::kForget + 1s);
  d.said(6000, 7, 0);
  CHECK(d.desk.peers() == 1);
}
TEST_CASE("a number that somebody else asks with is another's", "[desk]") {
  Desk d;
  const auto at = [](const std::string& from, int run) {
    return PullDesk::Asker{from, run_of(run)};
  };
  const auto now = [&] { return d.clock.time.mono; };
  CHECK(d.desk.said(at("192.0.2.1", 1), 7, 0, "http://192.0.2.1", 7, now()).pull == Pull::None);
  // Who has heard the number says that the peer has nothing, and nothing to hand out.
  d.desk.said(at("203.0.113.9", 1), 0, 0, "", 7, now());
  d.desk.said(at("203.0.113.9", 1), 0, 8, "", 7, now());
  CHECK(d.desk.peers() == 2);
  const auto sent = d.desk.said(at("192.0.2.2", 2), 0, 8, "", 7, now());
  CHECK(sent.pull == Pull::Later);  // nobody has 8
  for (int who = 10; who < 14; ++who) {
    CHECK(d.said(who, 0, 7).pull == Pull::Here);
    d.said(who, 7, 0, "");
  }
  const auto referred = d.desk.said(at("192.0.2.2", 2), 0, 7, "", 7, now());
  REQUIRE(referred.pull == Pull::Others);
  CHECK(referred.sources == std::vector<std::string>{"http://192.0.2.1"});
}

TEST_CASE("who asks under many numbers has one place, and holds up nobody", "[desk]") {
  Desk d;
  const auto crowd = [&](int run, std::uint64_t number, std::uint64_t want,
                         const std::string& content = "") {
    return d.desk.said({"203.0.113.9", run_of(run)}, number, want, content, 7, d.clock.time.mono);
  };
  CHECK(crowd(1, 0, 7).pull == Pull::Here);
  for (int run = 2; run < 100; ++run) CHECK(crowd(run, 0, 7).pull == Pull::Later);
  CHECK(d.desk.peers() == PullDesk::kMostAtOne);
  // Of the first four it takes two at most, however long it goes on.
  int places = 1;
  for (int turn = 0; turn < 200; ++turn) {
    d.clock.pass(1s);
    if (turn % 2 == 0 && crowd(2 + turn % 60, 0, 7).pull == Pull::Here) ++places;
    if (turn == 150) {
      CHECK(places >= 2);
      // Nobody has it yet: those who come are let in though the crowd is at it.
      for (int who = 1; who < 4; ++who) {
        CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
        d.said(who, 7, 0, "");
      }
    }
  }
}

TEST_CASE("who claims under many numbers to have a version is one of those named", "[desk]") {
  Desk d;
  for (int run = 0; run < 60; ++run)
    d.desk.said({"203.0.113.9", run_of(run)}, 7, 0, "http://203.0.113.9:" + std::to_string(run), 7,
                d.clock.time.mono);
  for (int who = 1; who < 4; ++who) {
    d.said(who, 0, 7);
    d.said(who, 7, 0);
  }
  d.said(4, 0, 7);
  for (int who = 10; who < 16; ++who) {
    const auto sent = d.said(who, 0, 7);
    if (sent.pull != Pull::Others) continue;
    CHECK(sent.sources.size() == 4);
    CHECK(std::ranges::count_if(sent.sources, [](const std::string& url) {
            return url.starts_with("http://203.0.113.9");
          }) == 1);
  }
}

TEST_CASE("nobody has more than half of the places at others", "[desk]") {
  Desk d;
  for (int who = 1; who < 9; ++who) d.said(who, 7, 0);  // eight have it: room for sixteen
  for (int who = 20; who < 24; ++who) {
    CHECK(d.said(who, 0, 7, "").pull == Pull::Here);
    d.said(who, 7, 0, "");
  }
  int places = 0;
  for (int run = 0; run < 60; ++run)
    places += d.desk.said({"203.0.113.9", run_of(run)}, 0, 7, "", 7, d.clock.time.mono).pull ==
              Pull::Others;
  CHECK(places == 8);
  for (int who = 30; who < 38; ++who) CHECK(d.said(who, 0, 7, "").pull == Pull::Others);
}

namespace {

struct Outcome {
  double rounds = 0;  // until the last survivor had it, in times that one pull takes
  int packs = 0;      // pulls that began at the origin
  int done = 0;
};

// N mirrors hear of a version at once; a third, drawn at random, dies at a random moment of its
// pull. A pull takes kPull wherever from: two at a time are what a mirror's line bears.
//
// `together`: so many of them share an address. `crowd`: so many others, at one more address, say
// that they pull and never have it.
Outcome simulate(std::uint64_t seed, int count, int together = 1, int crowd = 0) {
  const auto mirror = [&](int who) {
    return PullDesk::Asker{asker(who / together).from, run_of(who)};
  };
  constexpr base::Duration kPull = 10s;
  std::mt19937_64 random(seed);
  std::vector<int> order(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) order[static_cast<std::size_t>(i)] = i;
  std::ranges::shuffle(order, random);
  std::vector<bool> mortal(static_cast<std::size_t>(count));
  for (int i = 0; i < count / 3; ++i)
    mortal[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = true;
  struct Mirror {
    base::MonoTime ends{}, dies{};
    bool pulling = false;
  };
  std::vector<Mirror> mirrors(static_cast<std::size_t>(count));
  PullDesk desk;
  const base::MonoTime start{1s};
  using Turn = std::pair<base::MonoTime, int>;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  const auto jitter = [&](base::Duration most) {
    std::uniform_int_distribution<base::Duration::rep> any(0, most.count());
    return base::Duration(any(random));
  };
  for (int i = 0; i < count; ++i) turns.emplace(start + jitter(100ms), i);
  const base::MonoTime end = start + 30 * kPull;
  for (int i = 0; i < crowd; ++i) turns.emplace(start, count + i);
  Outcome outcome;
  base::MonoTime last = start;
  while (!turns.empty()) {
    const auto [now, who] = turns.top();
    turns.pop();
    if (who >= count) {  // under another number each time that it has had enough of one
      const int run = who + 10'000 * static_cast<int>(now.time_since_epoch() / 40s);
      desk.said({"203.0.113.9", run_of(run)}, 0, 1, "", 1, now);
      if (now < end) turns.emplace(now + 1s + jitter(200ms), who);
      continue;
    }
    Mirror& m = mirrors[static_cast<std::size_t>(who)];
    if (m.pulling && mortal[static_cast<std::size_t>(who)] && now >= m.dies) continue;
    if (m.pulling && now >= m.ends) {
      desk.said(mirror(who), 1, 0, url_of(who), 1, now);
      last = now;
      ++outcome.done;
      continue;
    }
    const auto verdict = desk.said(mirror(who), 0, 1, url_of(who), 1, now);
    if (!m.pulling && verdict.pull != Pull::Later) {
      m.pulling = true;
      m.ends = now + kPull;
      m.dies = now + jitter(kPull);
      if (verdict.pull == Pull::Here) ++outcome.packs;
    }
    base::MonoTime next = now + verdict.again + jitter(200ms);
    if (m.pulling) next = std::min(next, m.ends);
    turns.emplace(next, who);
  }
  outcome.rounds = base::to_seconds(last - start) / base::to_seconds(kPull);
  return outcome;
}

}  // namespace

TEST_CASE("a thousand mirrors, a third of which die in mid-pull, need few rounds and few packs of "
          "the origin's", "[desk][sim]") {
  constexpr int kMirrors = 1000;
  const char* from = std::getenv("MIRRORBUS_SEED");
  const std::uint64_t first = from ? std::strtoull(from, nullptr, 10) : 1;
  for (std::uint64_t seed = first; seed < first + 10; ++seed) {
    const Outcome outcome = simulate(seed, kMirrors);
    fmt::print("seed {}: {:.2f} rounds, {} packs sent by the origin, {} mirrors have it\n", seed,
               outcome.rounds, outcome.packs, outcome.done);
    CAPTURE(seed);
    CHECK(outcome.done == kMirrors - kMirrors / 3);
    CHECK(outcome.rounds <= std::ceil(std::log2(kMirrors)) + 3);
    CHECK(outcome.packs <= 4);
  }
}

TEST_CASE("mirrors that share an address, and a crowd that only takes places", "[desk][sim]") {
  constexpr int kMirrors = 300;
  for (std::uint64_t seed = 1; seed < 6; ++seed) {
    const Outcome site = simulate(seed, kMirrors, 50);
    const Outcome crowded = simulate(seed, kMirrors, 1, 60);
    fmt::print("seed {}: six sites {:.2f} rounds, {} packs; "
               "beside a crowd {:.2f} rounds, {} packs\n",
               seed, site.rounds, site.packs, crowded.rounds, crowded.packs);
    CAPTURE(seed);
    CHECK(site.done == kMirrors - kMirrors / 3);
    CHECK(site.rounds <= std::ceil(std::log2(kMirrors)) + 5);
    CHECK(site.packs <= 4);
    CHECK(crowded.done == kMirrors - kMirrors / 3);
    CHECK(crowded.rounds <= std::ceil(std::log2(kMirrors)) + 5);
  }
}

TEST_CASE("others are named a mirror by the address it was seen at", "[desk]") {
  using mirror::seen_content;
  CHECK(seen_content("http://10.0.0.1:9944", "192.0.2.7") == "http://192.0.2.7:9944");
  CHECK(seen_content("http://victim.example.org:80/path", "192.0.2.7") ==
        "http://192.0.2.7:80/path");
  CHECK(seen_content("http://victim", "192.0.2.7") == "http://192.0.2.7");
  CHECK(seen_content("http://[2001:db8::1]:9944", "2001:db8::7") == "http://[2001:db8::7]:9944");
  CHECK(seen_content("http://[2001:db8::1]", "2001:db8::7") == "http://[2001:db8::7]");
  CHECK(seen_content("http://user:pw@victim:1", "192.0.2.7") == "http://192.0.2.7:1");
  CHECK(seen_content("https://victim:443", "192.0.2.7").empty());
  CHECK(seen_content("", "192.0.2.7").empty());
  CHECK(seen_content("http://127.0.0.1:9", ":0:0:17") == "http://127.0.0.1:9");
}
