// A subscriber that is far behind: what it asks for, when, and what becomes of the answers.
#include "test/bus/peer/core_fixture.hpp"
#include "test/bus/peer/damaged_journal.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;
using proto::Reject;
using Positions = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

namespace {

// A subscriber to one topic that has nothing yet, and ten events of it that it has not heard.
struct FarBehind {
  TestPublisher publisher;
  TestSubscriber subscriber;

  FarBehind() : subscriber(publisher, {{publisher.id, {1, 0, 0, 0, 1}}}, kTopic) {
    for (int i = 0; i < 10; ++i) publisher.publish(at(0.01 * i), kTopic);
    subscriber.core->frame(publisher.announcement(), 0, at(0));
    subscriber.believe(publisher, at(0));
    subscriber.core->frame(publisher.head(at(0)), 0, at(0));
  }
  static constexpr char kTopic[] = "org.example.dev.shell.log.line";

  std::uint64_t asked(const char* field) const {
    REQUIRE(subscriber.questions.size() == 1);
    REQUIRE(subscriber.questions[0].verb == "replay");
    return *proto::field<std::uint64_t>(subscriber.questions[0].args, field);
  }
  void answer(std::vector<proto::Bytes> parts, std::uint64_t through, bool more) {
    proto::Answer answer;
    answer.fields = proto::to_fields({through, more, 1, 10});
    answer.parts = std::move(parts);
    const std::uint64_t question = std::exchange(subscriber.questions, {}).at(0).id;
    subscriber.core->answered(question, std::move(answer), 1, at(0));
  }
};

}  // namespace

TEST_CASE("the next answer is asked for before this one is looked at", "[subscriber]") {
  FarBehind behind;
  CHECK(behind.asked("from") == 1);
  CHECK(behind.asked("to") == 10);
  const auto rows = behind.publisher.journal.read({1, 5, "", 1 << 20});
  behind.answer(rows.rows, 5, true);
  CHECK(behind.asked("from") == 6);
  CHECK(behind.subscriber.delivered.size() == 5);
  behind.answer(behind.publisher.journal.read({6, 10, "", 1 << 20}).rows, 10, false);
  CHECK(behind.subscriber.delivered.size() == 10);
  CHECK(behind.subscriber.questions.empty());
}

TEST_CASE("an answer asked for ahead does not stand in for a bad one before it", "[subscriber]") {
  FarBehind behind;
  behind.answer({"not a row"}, 5, true);
  CHECK(behind.asked("from") == 6);
  // Nothing under our topic in 6 … 10, it says: that tells nothing of 1 … 5.
  behind.answer({}, 10, false);
  CHECK(behind.subscriber.delivered.empty());
  for (double now = 0; now < 10; now += 0.1) {
    behind.subscriber.core->tick(at(now));
    behind.subscriber.answer(behind.publisher, at(now));
  }
  CHECK(behind.subscriber.delivered.size() == 10);
  CHECK(behind.subscriber.gaps.empty());
}

TEST_CASE("keys that are judged again and again do not put off a gap", "[subscriber]") {
  FarBehind behind;
  for (double now = 0; now < 150 && behind.subscriber.gaps.empty(); now += 0.5) {
    behind.subscriber.core->tick(at(now));
    for (const Question& question : std::exchange(behind.subscriber.questions, {}))
      behind.subscriber.core->answered(question.id, proto::refuse(Reject::Unavailable), 1, at(now));
    // The keyring has changed.
    behind.subscriber.core->set_policy(TestSubscriber::policy(behind.publisher.name));
    behind.subscriber.believe(behind.publisher, at(now));
  }
  REQUIRE(behind.subscriber.gaps.size() == 1);
  CHECK(behind.subscriber.gaps[0].from == 1);
  CHECK(behind.subscriber.gaps[0].to == 10);
}

TEST_CASE("what is held is not asked for again", "[subscriber]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher);
  const auto hear = [&](const proto::Bytes& frame) {
    subscriber.core->frame(frame, 0, at(0));
    subscriber.believe(publisher, at(0));
  };
  hear(publisher.announcement());
  hear(publisher.head(at(0)));
  publisher.publish(at(0));
  publisher.publish(at(0));
  hear(publisher.publish(at(0)));
  publisher.publish(at(0));
  hear(publisher.publish(at(0)));
  REQUIRE(subscriber.questions.size() == 1);
  CHECK(proto::field<std::uint64_t>(subscriber.questions[0].args, "to") == 2);
  subscriber.answer(publisher, at(0));
  REQUIRE(subscriber.questions.size() == 1);
  CHECK(proto::field<std::uint64_t>(subscriber.questions[0].args, "from") == 4);
  CHECK(proto::field<std::uint64_t>(subscriber.questions[0].args, "to") == 4);
  subscriber.answer(publisher, at(0));
  CHECK(subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 5}});
}

TEST_CASE("a batch that the disk has changed is one gap, and nothing else is lost",
          "[subscriber]") {
  const std::uint64_t damaged = GENERATE(4u, 10u);  // in the middle; the last
  FarBehind behind;
  DamagedJournal journal(behind.publisher.journal, damaged);
  StreamVerbs verbs(behind.publisher.id, journal);
  double beat = 1;
  for (double now = 0; now < 90; now += 0.1) {
    behind.subscriber.core->tick(at(now));
    if (now >= beat) behind.subscriber.core->frame(behind.publisher.head(at(beat++)), 0, at(now));
    for (const Question& question : std::exchange(behind.subscriber.questions, {})) {
      const auto request =
          proto::decode_request(proto::encode_request({question.id, question.verb, question.args}));
      behind.subscriber.core->answered(
          question.id, proto::decode_answer(proto::encode_answer(*verbs.answer(*request))), 1,
          at(now));
    }
  }
  CHECK(verbs.damaged() > 0);
  CHECK(behind.subscriber.delivered.size() == 9);
  REQUIRE(behind.subscriber.gaps.size() == 1);
  CHECK(behind.subscriber.gaps[0].from == damaged);
  CHECK(behind.subscriber.gaps[0].to == damaged);
  // It is no sign against the publisher: nothing of it was refused.
  CHECK(behind.subscriber.core->counts().cuts == 0);
  CHECK(behind.subscriber.core->counts().refused[static_cast<std::size_t>(Reject::BadRoot)] == 0);
}
