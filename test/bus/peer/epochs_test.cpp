// How a subscriber gets from one epoch of a stream to the next, and what it names lost on the way.
#include "test/bus/peer/core_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;
using proto::Reject;
using Positions = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

TEST_CASE("an epoch whose beginning nobody tells is named lost, and nothing comes again",
          "[subscriber]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher);
  const auto hear = [&](const proto::Bytes& frame, double seconds) {
    subscriber.core->frame(frame, 0, at(seconds));
    subscriber.believe(publisher, at(seconds));
  };
  const proto::Bytes first = publisher.announcement();
  hear(first, 0);
  hear(publisher.head(at(0)), 0);
  for (int i = 0; i < 5; ++i) hear(publisher.publish(at(0.1)), 0.1);
  REQUIRE(subscriber.delivered.size() == 5);

  publisher.start(at(1));
  for (int i = 0; i < 3; ++i) publisher.publish(at(1));
  publisher.renew(at(1));
  publisher.publish(at(1));
  // Its second credential is heard, the first cannot be had. Then the old epoch's is heard once
  // more.
  hear(publisher.announcement(), 2);
  hear(first, 2);
  double now = 2;
  for (; subscriber.gaps.empty() && now < 80; now += 0.1) {
    subscriber.core->tick(at(now));
    std::vector<Question> asked = std::exchange(subscriber.questions, {});
    for (const Question& question : asked)
      subscriber.core->answered(question.id, proto::refuse(Reject::Unavailable), 1, at(now));
    if (static_cast<int>(now * 10) % 10 == 0) hear(first, now);
  }
  REQUIRE(subscriber.gaps.size() == 2);
  CHECK(subscriber.gaps[0].epoch == 1);
  CHECK(subscriber.gaps[0].from == 6);
  CHECK_FALSE(subscriber.gaps[0].to);
  CHECK(subscriber.gaps[1].epoch == 2);
  CHECK(subscriber.gaps[1].to == 8);
  hear(publisher.head(at(now)), now);
  for (int i = 0; i < 20; ++i) {
    subscriber.core->tick(at(now += 0.1));
    subscriber.answer(publisher, at(now));
    subscriber.believe(publisher, at(now));
  }
  CHECK(subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 5}, {2, 9}});
}

TEST_CASE("many epochs are walked although few credentials may be checked at once",
          "[subscriber]") {
  TestPublisher publisher;
  store::Cursors cursors;
  cursors[publisher.id] = {1, 0, 0, 0, 1};
  TestSubscriber subscriber(publisher, cursors);
  publisher.publish(at(0));
  for (int epoch = 2; epoch <= 30; ++epoch) {
    publisher.start(at(0));
    publisher.publish(at(0));
  }
  double now = 0;
  subscriber.core->frame(publisher.announcement(), 0, at(now));
  subscriber.believe(publisher, at(now));
  subscriber.core->frame(publisher.head(at(now)), 0, at(now));
  std::size_t most_at_once = 0;
  double beat = 1;
  for (; subscriber.delivered.size() < 30 && now < 120; now += 0.05) {
    subscriber.core->tick(at(now));
    if (now >= beat) subscriber.core->frame(publisher.head(at(beat++)), 0, at(now));
    subscriber.answer(publisher, at(now));
    most_at_once = std::max(most_at_once, subscriber.to_check.size());
    subscriber.believe(publisher, at(now));
  }
  INFO("after " << now << " s");
  CHECK(subscriber.gaps.empty());
  REQUIRE(subscriber.delivered.size() == 30);
  for (std::uint64_t i = 0; i < 30; ++i)
    CHECK(subscriber.delivered[i] == Positions::value_type(i + 1, i + 1));
  CHECK(most_at_once <= 5);
}

TEST_CASE("more epochs are walked than one answer lists", "[subscriber]") {
  constexpr int kEpochs = 200;
  TestPublisher publisher;
  store::Cursors cursors;
  cursors[publisher.id] = {1, 0, 0, 0, 1};
  TestSubscriber subscriber(publisher, cursors);
  publisher.publish(at(0));
  for (int epoch = 2; epoch <= kEpochs; ++epoch) {
    publisher.start(at(0));
    publisher.publish(at(0));
    // Of a long life: what began it is not among its newest.
    if (epoch == 100)
      for (int i = 0; i < 80; ++i) publisher.renew(at(0));
  }
  double now = 0;
  subscriber.core->frame(publisher.announcement(), 0, at(now));
  subscriber.believe(publisher, at(now));
  subscriber.core->frame(publisher.head(at(now)), 0, at(now));
  std::size_t asked = 0;
  double beat = 1;
  for (; subscriber.delivered.size() < kEpochs && now < 900; now += 0.05) {
    subscriber.core->tick(at(now));
    if (now >= beat) subscriber.core->frame(publisher.head(at(beat++)), 0, at(now));
    asked += subscriber.questions.size();
    subscriber.answer(publisher, at(now));
    subscriber.believe(publisher, at(now));
  }
  INFO("after " << now << " s and " << asked << " questions");
  CHECK(subscriber.gaps.empty());
  REQUIRE(subscriber.delivered.size() == kEpochs);
  for (std::uint64_t i = 0; i < kEpochs; ++i)
    CHECK(subscriber.delivered[i] == Positions::value_type(i + 1, i + 1));
  CHECK(now < 500);
  CHECK(asked < 2000);
}

TEST_CASE("what a credential sealed that nobody has is named lost, however many others come",
          "[subscriber]") {
  TestPublisher publisher;
  store::Cursors cursors;
  cursors[publisher.id] = {1, 0, 0, 0, 1};
  TestSubscriber subscriber(publisher, cursors);
  publisher.publish(at(0));
  publisher.renew(at(0));
  publisher.publish(at(0));  // under 1.1, which nobody has any more
  const proto::Hash missing =
      proto::credential_id(proto::decode_sealed(publisher.sealed)->document);
  publisher.renew(at(0));
  publisher.publish(at(0));
  // More than are kept: that of seq 3 and that of seq 4 take each other's place.
  for (int epoch = 2; epoch <= 69; ++epoch) publisher.start(at(0));
  publisher.publish(at(0));
  publisher.start(at(0));
  publisher.publish(at(0));
  double now = 0, beat = 1;
  subscriber.core->frame(publisher.announcement(), 0, at(now));
  subscriber.believe(publisher, at(now));
  for (; now < 300; now += 0.05) {
    subscriber.core->tick(at(now));
    if (now >= beat) subscriber.core->frame(publisher.head(at(beat++)), 0, at(now));
    std::erase_if(subscriber.questions, [&](const Question& question) {
      const auto id = proto::field<proto::Hash>(question.args, "credential");
      if (!id || *id != missing) return false;
      subscriber.core->answered(question.id, proto::refuse(Reject::NotHeld), 1, at(now));
      return true;
    });
    subscriber.answer(publisher, at(now));
    subscriber.believe(publisher, at(now));
  }
  CHECK(subscriber.delivered == Positions{{1, 1}, {1, 3}, {69, 4}, {70, 5}});
  REQUIRE(subscriber.gaps.size() == 1);
  CHECK(subscriber.gaps[0].epoch == 1);
  CHECK(subscriber.gaps[0].from == 2);
  CHECK(subscriber.gaps[0].to == 2);
}

TEST_CASE("an epoch is no longer unknown once it was entered by itself", "[subscriber]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher);
  const auto hear = [&](const proto::Bytes& frame, double seconds) {
    subscriber.core->frame(frame, 0, at(seconds));
    subscriber.believe(publisher, at(seconds));
  };
  hear(publisher.announcement(), 0);
  hear(publisher.head(at(0)), 0);
  hear(publisher.publish(at(0.1)), 0.1);
  publisher.start(at(1));
  const proto::Bytes first = publisher.announcement();
  publisher.renew(at(1));
  // The second is judged first: how its epoch begins is asked, and nobody answers.
  subscriber.core->frame(publisher.announcement(), 0, at(1));
  hear(first, 1);
  CHECK(subscriber.questions.size() == 1);
  for (double now = 1; now < 80; now += 0.5) subscriber.core->tick(at(now));
  CHECK(subscriber.gaps.empty());
  hear(publisher.publish(at(80)), 80);
  CHECK(subscriber.delivered == Positions{{1, 1}, {2, 2}});
}

TEST_CASE("what a restored publisher has cut off is not taken from who still has it",
          "[subscriber]") {
  TestPublisher lost, restored;
  TestSubscriber subscriber(lost);
  const auto hear = [&](const proto::Bytes& frame, double seconds) {
    subscriber.core->frame(frame, 0, at(seconds));
    subscriber.believe(lost, at(seconds));
  };
  hear(lost.announcement(), 0);
  hear(lost.head(at(0)), 0);
  hear(lost.publish(at(0.1)), 0.1);
  restored.publish(at(0.1));  // so far they are one

  SECTION("a replay of it") {
    for (int i = 0; i < 2; ++i) hear(lost.publish(at(0.2)), 0.2);
    restored.start(at(1));
    for (int i = 0; i < 2; ++i) restored.publish(at(1));
    hear(restored.announcement(), 1);
    hear(restored.head(at(1)), 1);
    REQUIRE(subscriber.gaps.size() == 1);
    subscriber.answer(lost, at(1));
    CHECK(subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}});
    for (double now = 1; now < 3; now += 0.1) {
      subscriber.core->tick(at(now));
      subscriber.answer(restored, at(now));
    }
    CHECK(subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}, {2, 2}, {2, 3}});
  }
  SECTION("a replay of it, after a restart") {
    hear(lost.publish(at(0.2)), 0.2);
    restored.start(at(1));
    hear(restored.announcement(), 1);
    TestSubscriber again(lost, subscriber.core->cursors());
    again.core->frame(restored.announcement(), 0, at(2));
    again.believe(restored, at(2));
    restored.publish(at(2));
    again.core->frame(restored.head(at(2)), 0, at(2));
    for (double now = 2; now < 5; now += 0.1) {
      again.core->tick(at(now));
      again.answer(lost, at(now));
      again.believe(lost, at(now));
    }
    CHECK(again.core->counts().refused[static_cast<std::size_t>(Reject::EpochRollback)] > 0);
    CHECK(again.delivered.empty());
  }
  SECTION("an event that was held") {
    lost.start(at(1));
    lost.renew(at(1));
    hear(lost.announcement(), 1);
    hear(lost.publish(at(1)), 1);
    restored.journal.begin_epoch(lost.core->epoch());
    restored.start(at(2));
    hear(restored.announcement(), 2);
    hear(restored.publish(at(2)), 2);
    CHECK(subscriber.delivered == Positions{{1, 1}, {3, 2}});
  }
}

TEST_CASE(
    "history under a prefix is read over a restart, which no back-pointer knows the far side of",
    "[subscriber]") {
  TestPublisher publisher;
  for (int i = 0; i < 2; ++i) publisher.publish(at(1));
  publisher.publish(at(1), "org.example.dev.bus.publisher.stop");
  publisher.start(at(2));
  publisher.publish(at(2), "org.example.dev.bus.publisher.start");
  for (int i = 0; i < 2; ++i) publisher.publish(at(2));

  TestSubscriber subscriber(publisher, {}, "org.example.dev.shell.**", StartOldest{});
  subscriber.core->frame(publisher.announcement(), 1, at(3));
  subscriber.believe(publisher, at(3));
  subscriber.core->frame(publisher.head(at(3)), 1, at(3));
  for (int i = 0; i < 40; ++i) {  // well below gap_after
    const base::Now now = at(3 + i * 0.1);
    subscriber.answer(publisher, now);
    subscriber.believe(publisher, now);
    subscriber.core->tick(now);
  }
  std::vector<std::uint64_t> seqs;
  for (const auto& [epoch, seq] : subscriber.delivered) seqs.push_back(seq);
  CHECK(seqs == std::vector<std::uint64_t>{1, 2, 5, 6});
  CHECK(subscriber.gaps.empty());

  SECTION("what a source leaves out is asked for elsewhere") {
    TestSubscriber other(publisher, {}, "org.example.dev.shell.**", StartOldest{});
    other.core->frame(publisher.announcement(), 1, at(3));
    other.believe(publisher, at(3));
    other.core->frame(publisher.head(at(3)), 1, at(3));
    for (int i = 0; i < 40; ++i) {
      const base::Now now = at(3 + i * 0.1);
      other.answer(publisher, now, 0,
                   [](const Question& question) { return question.attempt == 0; });
      other.believe(publisher, now);
      other.core->tick(now);
    }
    CHECK(other.delivered == subscriber.delivered);
  }
}
