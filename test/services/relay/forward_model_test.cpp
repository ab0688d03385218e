// A publisher's ForwardCore and a relay's ForwardedStream, and between them a network that loses
// what is under way; both end and begin again, the publisher also from a copy of its journal, and
// from none.
#include "test/bus/peer/damaged_journal.hpp"
#include "test/services/relay/forward_fixture.hpp"
#include "test/support/environment.hpp"

#include <random>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::relay::test;

namespace {

struct World {
  std::mt19937_64 random;
  Publisher publisher;
  Relay relay;
  double seconds = 0, next_beat = 0;

  explicit World(std::uint64_t seed) : random(seed) { publisher.start(now()); }
  base::Now now() const { return peer::test::at(seconds); }
  std::uint64_t below(std::uint64_t n) { return random() % n; }

  void step(bool faults) {
    seconds += 0.01 * static_cast<double>(1 + below(10));
    if (seconds >= next_beat) {
      publisher.beat(now());
      next_beat = seconds + 1;
    }
    publisher.forward->tick(now());
    for (std::uint64_t n = below(8); n > 0 && !publisher.reads.empty(); --n) {
      const auto [number, read] = publisher.reads.front();
      publisher.reads.pop_front();
      publisher.forward->found(number, peer::forward_read(*publisher.journal, read), now());
    }
    for (std::uint64_t n = below(8); n > 0 && !publisher.under_way.empty(); --n) {
      const auto message = std::move(publisher.under_way.front());
      publisher.under_way.pop_front();
      const proto::Answer answer = relay.answer(message.kind, message.parts, now());
      // Taken, and the answer lost with the connection.
      if (faults && below(40) == 0) {
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      }
      publisher.forward->answered(message.question, answer, now());
    }
  }

  void publish_some() {
    for (std::uint64_t n = below(20); n > 0; --n)
      publisher.publish(1 + static_cast<int>(below(40)), now());
  }

  void fault() {
    switch (below(8)) {
      case 0:
        publisher.start(now());
        break;
      case 1: {  // from a copy
        const store::Tail tail = publisher.journal->tail();
        if (tail.last_seq > tail.oldest_seq)
          publisher.restore(tail.oldest_seq + below(tail.last_seq - tail.oldest_seq + 1));
        publisher.start(now());
        break;
      }
      case 2:
        if (below(4) == 0) {  // from nothing
          publisher.journal = std::make_unique<store::MemoryJournal>(1 << 26);
          publisher.start(now());
        }
        break;
      case 3:
        publisher.renew(now());
        break;
      case 4:  // retention, also of what the relay has not had yet
        publish_some();
        publisher.journal->prune(0, below(30) * 500);
        break;
      case 5:
        relay.start();
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      case 6:
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      case 7:  // retention there
        while (relay.rows.size() > 1 && below(3) != 0) relay.rows.pop_front();
        break;
    }
  }

  void check() {
    for (std::size_t i = 1; i < relay.rows.size(); ++i)
      REQUIRE(relay.rows[i - 1].header.last_seq() + 1 == relay.rows[i].header.first_seq);
    const store::Tail tail = publisher.journal->tail();
    REQUIRE(relay.tail().last_seq == tail.last_seq);
    if (tail.last_seq == 0) return;
    REQUIRE(relay.tail().header == tail.header);
    // All that both have is the same.
    for (const Relay::Row& row : relay.rows) {
      if (row.header.first_seq < tail.oldest_seq) continue;
      const auto here =
          publisher.journal->read({row.header.first_seq, row.header.first_seq, "", 1});
      REQUIRE(here.rows.size() == 1);
      REQUIRE(here.rows.front() == row.bytes);
    }
    // And the newest head has been passed on.
    REQUIRE(!relay.passed_on.empty());
    REQUIRE(relay.passed_on.back().epoch == publisher.core->epoch());
    REQUIRE(relay.passed_on.back().last == tail.last_seq);
  }
};

}  // namespace

TEST_CASE("whatever ends and comes back, the relay has what its publisher has", "[forward]") {
  const std::uint64_t from = test::number_from("MIRRORBUS_SEED", 1);
  const std::uint64_t seeds = test::number_from("MIRRORBUS_SEEDS", 150);
  std::size_t taken = 0, cuts = 0, holes = 0, early_heads = 0;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    for (int round = 0; round < 30; ++round) {
      world.publish_some();
      for (std::uint64_t steps = world.below(60); steps > 0; --steps) world.step(true);
      if (world.below(2) == 0) world.fault();
    }
    world.publisher.publish(1, world.now());
    for (int step = 0; step < 3000; ++step) world.step(false);
    world.check();
    taken += world.relay.taken;
    cuts += world.relay.cuts;
    holes += world.relay.holes;
    early_heads += world.relay.early_heads;
  }
  // It was a test of something.
  CHECK(taken > 20 * seeds);
  CHECK(cuts > seeds / 2);
  CHECK(holes > seeds / 2);
  CHECK(early_heads > seeds / 2);
}

TEST_CASE("a batch that the disk has changed is not handed over, nor what is behind it",
          "[forward]") {
  World world(1);
  Publisher& publisher = world.publisher;
  for (int batch = 0; batch < 20; ++batch, world.seconds += 1) publisher.publish(1, world.now());
  peer::test::DamagedJournal journal(*publisher.journal, 11);
  const auto go_on = [&] {
    for (int step = 0; step < 200; ++step) {
      world.seconds += 1;
      publisher.beat(world.now());
      publisher.forward->tick(world.now());
      settle(publisher, journal, world.relay, world.now());
    }
  };
  go_on();
  CHECK(world.relay.tail().last_seq == 10);
  CHECK(publisher.forward->damaged_at() == 11);
  CHECK(publisher.forward->trouble() == Reject::BadRoot);

  publisher.journal->prune(base::to_ns(peer::test::at(11).wall), SIZE_MAX);
  REQUIRE(publisher.journal->tail().oldest_seq == 12);
  go_on();
  CHECK(world.relay.tail().last_seq == 20);
  CHECK(world.relay.holes == 1);
  CHECK_FALSE(publisher.forward->trouble());
}
