// What goes on while a subscriber has not joined a stream yet: it has heard a credential and
// events, and no head that it could take.
#include "test/bus/peer/core_fixture.hpp"

#include <catch2/catch.hpp>

#include <tuple>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;
using proto::Reject;
using Positions = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

namespace {

struct Joining {
  TestPublisher publisher;
  TestSubscriber subscriber;

  explicit Joining(Start start = StartOldest{}) : subscriber(publisher, {}, "**", start) {
    hear(publisher.announcement(), 0);
  }
  std::optional<Reject> hear(const proto::Bytes& frame, double seconds) {
    const auto why = subscriber.core->frame(frame, 0, at(seconds));
    subscriber.believe(publisher, at(seconds));
    return why;
  }
  std::optional<Reject> event(double seconds) {
    return hear(publisher.publish(at(seconds)), seconds);
  }
  std::optional<Reject> beat(double seconds) { return hear(publisher.head(at(seconds)), seconds); }
  void restart(double seconds) {
    publisher.start(at(seconds));
    hear(publisher.announcement(), seconds);
  }
  void catch_up(double seconds) {
    for (int turn = 0; turn < 20; ++turn) {
      subscriber.core->tick(at(seconds + 0.5 * turn));
      subscriber.answer(publisher, at(seconds + 0.5 * turn));
      subscriber.believe(publisher, at(seconds + 0.5 * turn));
    }
  }
};

}  // namespace

TEST_CASE("an epoch that ends before it was joined says nothing of the next one's batches",
          "[subscriber]") {
  Joining f;
  CHECK_FALSE(f.event(0.1));
  CHECK_FALSE(f.event(0.2));

  SECTION("whose numbers begin again") {
    f.restart(1);
    CHECK_FALSE(f.event(1.1));
    CHECK_FALSE(f.beat(1.2));
    f.catch_up(1.2);
    CHECK_FALSE(f.event(20));
    CHECK(f.subscriber.delivered == Positions{{1, 1}, {1, 2}, {2, 3}, {2, 4}});
  }
  SECTION("of which only heads are heard") {
    f.restart(1);
    f.publisher.publish(at(1.1));
    CHECK_FALSE(f.beat(1.2));
    f.catch_up(1.2);
    CHECK(f.subscriber.delivered == Positions{{1, 1}, {1, 2}, {2, 3}});
  }
  SECTION("also where it was two histories") {
    TestPublisher thief;
    CHECK(f.hear(thief.publish(at(0.3), "org.example.dev.shell.cron.done"), 0.3) ==
          Reject::Equivocation);
    CHECK(f.event(0.4) == Reject::Equivocation);
    f.restart(1);
    CHECK_FALSE(f.event(1.1));
    CHECK_FALSE(f.beat(1.2));
  }
  CHECK(f.subscriber.gaps.empty());
}

TEST_CASE("where to join is asked anew if the epoch ends meanwhile", "[subscriber]") {
  Joining f(StartTime{base::to_ns(at(0).wall)});
  // What it has then lost with its disk was claimed by the head that made us ask.
  TestPublisher restored;
  for (int i = 0; i < 2; ++i) {
    f.event(0.1);
    restored.publish(at(0.1));
  }
  for (int i = 0; i < 3; ++i) f.event(0.2);
  CHECK_FALSE(f.beat(0.3));
  REQUIRE(f.subscriber.questions.size() == 1);
  CHECK(f.subscriber.questions[0].verb == "info");
  std::vector<Question> asked = std::exchange(f.subscriber.questions, {});
  restored.start(at(1));
  f.hear(restored.announcement(), 1);
  std::swap(asked, f.subscriber.questions);
  f.subscriber.answer(restored, at(1.1));
  f.hear(restored.head(at(1.2)), 1.2);
  const auto catch_up = [&](double from) {
    for (double now = from; now < from + 100; now += 0.5) {
      f.subscriber.core->tick(at(now));
      f.subscriber.answer(restored, at(now));
      f.subscriber.believe(restored, at(now));
    }
  };
  catch_up(1.2);
  f.hear(restored.publish(at(102)), 102);
  CHECK(f.subscriber.gaps.empty());
  CHECK(f.subscriber.delivered == Positions{{1, 1}, {1, 2}, {2, 3}});
}

TEST_CASE("what retention takes from who joined at the oldest is named by its own epochs",
          "[subscriber]") {
  Joining f;
  // Two of epoch 1, two of epoch 2, all heard of before anything is joined; three of epoch 3.
  for (int i = 0; i < 2; ++i) f.publisher.publish(at(0.1));
  f.publisher.start(at(1));
  for (int i = 0; i < 2; ++i) f.publisher.publish(at(1.1));
  f.publisher.start(at(2));
  for (int i = 0; i < 3; ++i) f.publisher.publish(at(2 + i));
  const auto named = [&] {
    std::vector<std::tuple<std::uint64_t, std::uint64_t, std::optional<std::uint64_t>>> named;
    for (const Gap& gap : f.subscriber.gaps) named.emplace_back(gap.epoch, gap.from, gap.to);
    return named;
  };
  using Named = decltype(named());

  SECTION("with the credential that began the newest epoch") {
    f.hear(f.publisher.announcement(), 5);
  }
  SECTION("without it") {
    f.publisher.renew(at(5));
    f.hear(f.publisher.announcement(), 5);
  }
  CHECK_FALSE(f.beat(5));
  REQUIRE(f.subscriber.questions.size() == 1);  // from 1 on
  const std::uint64_t question = std::exchange(f.subscriber.questions, {})[0].id;
  f.subscriber.core->answered(question, proto::refuse(Reject::Unavailable), 0, at(5));
  f.publisher.journal.prune(base::to_ns(at(2.5).wall), UINT64_MAX);
  CHECK_FALSE(f.beat(6));
  f.catch_up(6);
  CHECK(named() == Named{{1, 1, 2}, {2, 3, 4}, {3, 5, 5}});
  CHECK(f.subscriber.delivered == Positions{{3, 6}, {3, 7}});
  for (const Gap& gap : f.subscriber.gaps) CHECK(gap.reason == GapReason::Retention);
}

TEST_CASE("a gap is named in time although nobody tells how its epoch began", "[subscriber]") {
  Joining f;
  for (int i = 0; i < 2; ++i) f.publisher.publish(at(0.1));
  f.publisher.start(at(2));
  for (int i = 0; i < 2; ++i) f.publisher.publish(at(2));
  f.publisher.renew(at(5));
  f.hear(f.publisher.announcement(), 5);
  CHECK_FALSE(f.beat(5));
  f.publisher.journal.prune(base::to_ns(at(1).wall), UINT64_MAX);
  CHECK_FALSE(f.beat(6));
  double now = 6;
  for (; now < 100 && f.subscriber.gaps.empty(); now += 0.5) {
    f.subscriber.core->tick(at(now));
    for (const Question& question : std::exchange(f.subscriber.questions, {}))
      f.subscriber.core->answered(question.id, proto::refuse(Reject::NotHeld), 1, at(now));
  }
  REQUIRE(f.subscriber.gaps.size() == 1);
  CHECK(f.subscriber.gaps[0].from == 1);
  CHECK(f.subscriber.gaps[0].to == 2);
  CHECK(f.subscriber.gaps[0].reason == GapReason::Retention);
  CHECK(now < 45);
}
