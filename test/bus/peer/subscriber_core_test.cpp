// Single rules of the subscriber that a storm of test/sim meets only now and then.
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

TEST_CASE("another publisher of the same identity is told from our own heads", "[publisher]") {
  TestPublisher ours;
  ours.publish(at(0));
  TestSubscriber listener(ours);
  listener.core->frame(ours.announcement(), 0, at(0));
  listener.believe(ours, at(0));
  const auto heard = [&](const proto::Bytes& frame, base::Now now) {
    listener.heads.clear();
    listener.core->frame(frame, 0, now);
    return listener.heads.size() == 1 && ours.core->of_another(listener.heads[0]);
  };
  std::vector<proto::Bytes> own;
  for (int i = 0; i < 20; ++i) own.push_back(ours.head(at(i)));
  CHECK_FALSE(heard(own.back(), at(19)));
  REQUIRE(listener.heads.size() == 1);
  CHECK_FALSE(heard(own.front(), at(19)));  // a proxy repeats it
  CHECK(listener.heads.size() == 1);

  SECTION("one started later") {
    TestPublisher other;
    other.start(at(20));
    REQUIRE(other.core->epoch() > ours.core->epoch());
    listener.core->frame(other.announcement(), 0, at(20));
    listener.believe(other, at(20));
    CHECK(heard(other.head(at(20)), at(20)));
    // It, in turn, cannot tell ours from its own past.
    proto::Head older = listener.heads[0];
    older.epoch = ours.core->epoch();
    CHECK_FALSE(other.core->of_another(older));
  }
  SECTION("a copy of the running process") {
    proto::Head head = [&] {
      heard(own.back(), at(19));
      return listener.heads[0];
    }();
    proto::Head ahead = head;
    ++ahead.beat;
    CHECK(ours.core->of_another(ahead));
    proto::Head differs = head;
    differs.last += 1;
    CHECK(ours.core->of_another(differs));
    proto::Head foreign = ahead;
    foreign.stream = proto::sha256("another stream");
    CHECK_FALSE(ours.core->of_another(foreign));
  }
  SECTION("one of long ago says nothing") {
    const proto::Bytes old = own.back();
    for (int i = 20; i < 1000; ++i) ours.head(at(i));
    CHECK_FALSE(heard(old, at(1000)));
    CHECK(listener.heads.empty());
  }
}

TEST_CASE("a head that came while its credential was being checked counts once it is believed",
          "[subscriber]") {
  TestPublisher publisher;
  publisher.publish(at(0));
  TestSubscriber subscriber(publisher);
  subscriber.core->frame(publisher.announcement(), 1, at(0));
  const proto::Bytes head = publisher.head(at(0));

  SECTION("as it came") {
    CHECK(subscriber.core->frame(head, 1, at(0)) == proto::Reject::UnknownCredential);
    CHECK(subscriber.core->streams(at(0)).empty());
    subscriber.believe(publisher, at(0.1));
    REQUIRE(subscriber.core->streams(at(0.1)).size() == 1);
    CHECK(subscriber.core->streams(at(0.1))[0].state == StreamState::Current);
    CHECK(subscriber.core->streams(at(0.1))[0].position == 1);
    // And it was that one, which does not count twice.
    CHECK(subscriber.core->frame(head, 1, at(0.1)) == proto::Reject::StaleHead);
  }
  SECTION("its seal is checked all the same") {
    proto::Bytes forged = head;
    forged.back() ^= 1;
    subscriber.core->frame(forged, 1, at(0));
    subscriber.believe(publisher, at(0.1));
    REQUIRE(subscriber.core->streams(at(0.1)).size() == 1);
    CHECK(subscriber.core->streams(at(0.1))[0].state == StreamState::Joining);
    CHECK(
        subscriber.core->counts().refused[static_cast<std::size_t>(proto::Reject::BadSignature)] ==
        1);
  }
}

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
      behind.subscriber.core->answered(question.id, proto::refuse(Reject::Unavailable), 1,
                                       at(now));
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

namespace {

// The disk under a journal has changed a byte of the batch that begins with this seq.
struct DamagedJournal final : store::Journal {
  store::Journal& good;
  const std::uint64_t first_seq;
  DamagedJournal(store::Journal& journal, std::uint64_t seq) : good(journal), first_seq(seq) {}

  store::ReadResult read(const store::ReadRequest& request) override {
    store::ReadResult result = good.read(request);
    for (proto::Bytes& row : result.rows) {
      const auto decoded = proto::decode_row(row);
      if (proto::decode_header(decoded->header())->first_seq == first_seq) row.back() ^= 1;
    }
    return result;
  }
  store::Tail tail() override { return good.tail(); }
  void append(std::span<const store::JournalRow> rows) override { good.append(rows); }
  void put_credential(const proto::Credential& credential,
                      const proto::SealedCredential& sealed) override {
    good.put_credential(credential, sealed);
  }
  std::uint64_t begin_epoch(std::uint64_t at_least) override { return good.begin_epoch(at_least); }
  bool prune(std::uint64_t before_ns, std::uint64_t max_bytes) override {
    return good.prune(before_ns, max_bytes);
  }
  std::uint64_t seq_before(std::uint64_t time_ns) override { return good.seq_before(time_ns); }
  std::optional<proto::SealedCredential> credential(const proto::Hash& id) override {
    return good.credential(id);
  }
  std::vector<proto::SealedCredential> credentials(std::uint64_t before_epoch,
                                                   std::size_t limit) override {
    return good.credentials(before_epoch, limit);
  }
  std::vector<proto::SealedCredential> first_credentials_before(std::uint64_t before_epoch,
                                                                std::size_t limit) override {
    return good.first_credentials_before(before_epoch, limit);
  }
  std::vector<proto::SealedCredential> first_credentials_after(std::uint64_t after_epoch,
                                                               std::size_t limit) override {
    return good.first_credentials_after(after_epoch, limit);
  }
  std::optional<std::uint64_t> submission(proto::ByteView sender, std::uint64_t n) override {
    return good.submission(sender, n);
  }
};

}  // namespace

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
      const auto request = proto::decode_request(
          proto::encode_request({question.id, question.verb, question.args}));
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
  CHECK(behind.subscriber.core->counts()
            .refused[static_cast<std::size_t>(Reject::BadRoot)] == 0);
}
