#include "bus/peer/recent_topics.hpp"

#include "test/bus/peer/core_fixture.hpp"
#include "proto/limits.hpp"

#include <catch2/catch.hpp>

using mirrorbus::peer::RecentTopics;
using Pairs = std::vector<mirrorbus::proto::Head::Pair>;
using namespace mirrorbus::peer::test;
namespace peer = mirrorbus::peer;
namespace proto = mirrorbus::proto;

TEST_CASE("a head's pairs are the topics since then, each with its last event", "[prefix]") {
  RecentTopics recent;
  recent.add("a.b.c", 1);
  recent.add("a.b.d", 2);
  recent.add("a.b.c", 3);
  CHECK(recent.since(0) == Pairs{{"a.b.c", 3}, {"a.b.d", 2}});
  CHECK(recent.since(2) == Pairs{{"a.b.c", 3}});
  CHECK(recent.since(3).empty());
  recent.add("a.b", 4);  // a topic above another speaks for it
  recent.add("a.b.d", 5);
  CHECK(recent.since(3) == Pairs{{"a.b", 5}, {"a.b.d", 5}});
}

TEST_CASE("more topics than a head can list are cut to what they have in common", "[prefix]") {
  RecentTopics recent;
  for (std::uint64_t seq = 1; seq <= 2 * proto::kMaxHeadPairs; ++seq)
    recent.add("a.b" + std::to_string(seq % 2) + ".t" + std::to_string(seq), seq);
  const std::uint64_t last = 2 * proto::kMaxHeadPairs;
  CHECK(recent.since(0) == Pairs{{"a.b0", last}, {"a.b1", last - 1}});
}

TEST_CASE("topics without end are spoken for by the empty prefix", "[prefix]") {
  RecentTopics recent(4);
  for (std::uint64_t seq = 1; seq <= 6; ++seq) recent.add("a.t" + std::to_string(seq), seq);
  CHECK(recent.since(0) == Pairs{{"", 6}, {"a.t5", 5}, {"a.t6", 6}});
  CHECK(recent.since(4) == Pairs{{"a.t5", 5}, {"a.t6", 6}});
}

// A publisher seals the next batch while a head goes out: its topics are not in that head.
TEST_CASE("a head says nothing of what is not durable yet", "[prefix][publisher]") {
  TestPublisher publisher;
  publisher.publish(at(0), "org.example.dev.shell.log.line");
  publisher.publish(at(0), "org.example.dev.mirror.tree.update");
  REQUIRE(publisher.core->publish("org.example.dev.shell.log.line", proto::Bytes("\x80", 1), at(1)));
  const auto under_way = publisher.core->next_batch(at(1));
  REQUIRE(under_way);

  TestSubscriber subscriber(publisher, {}, "org.example.dev.shell.**", peer::StartOldest{});
  subscriber.core->frame(publisher.announcement(), 0, at(1));
  subscriber.believe(publisher, at(1));
  subscriber.core->frame(publisher.head(at(1)), 0, at(1));
  subscriber.answer(publisher, at(1));
  CHECK(subscriber.delivered.size() == 1);
  CHECK(subscriber.questions.empty());  // there is nothing else to ask for
  CHECK(subscriber.core->streams(at(1)).at(0).state == peer::StreamState::Current);
}
