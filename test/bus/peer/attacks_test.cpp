// The attacks of The Update Framework's vocabulary (TUF specification §1.5.2), one case each, at the
// subscriber's core. The same against live daemons: test/fault/hostile_bus_test.py.
#include "test/bus/peer/core_fixture.hpp"

#include "proto/event.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;
using proto::Reject;
using Positions = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
using Refusal = std::optional<Reject>;

namespace {

constexpr char kTopic[] = "org.example.dev.shell.log.line";

// A subscriber that follows its publisher, and two events it has had.
struct Following {
  TestPublisher publisher;
  TestSubscriber subscriber{publisher};
  std::vector<proto::Bytes> sent;
  std::vector<proto::Bytes> heads;

  Following() {
    hear(publisher.announcement());
    beat(0);
    event(0.1);
    event(0.2);
    REQUIRE(subscriber.delivered == Positions{{1, 1}, {1, 2}});
  }
  Refusal hear(const proto::Bytes& frame, double seconds = 0.2) {
    const Refusal why = subscriber.core->frame(frame, 0, at(seconds));
    subscriber.believe(publisher, at(seconds));
    return why;
  }
  Refusal event(double seconds, const std::string& topic = kTopic) {
    sent.push_back(publisher.publish(at(seconds), topic));
    return hear(sent.back(), seconds);
  }
  Refusal beat(double seconds) {
    heads.push_back(publisher.head(at(seconds)));
    return hear(heads.back(), seconds);
  }
  StreamInfo info(double seconds) const { return subscriber.core->streams(at(seconds)).at(0); }

  // What a thief of the session key can make.
  trust::SessionKey stolen() const {
    return trust::SessionKey(proto::sha256(fmt::format("{} {}", publisher.core->epoch(), 0)));
  }
  proto::BatchHeader next_header() const {
    const store::Tail tail = const_cast<TestPublisher&>(publisher).journal.tail();
    proto::BatchHeader header;
    header.credential = proto::credential_id(proto::decode_sealed(publisher.sealed)->document);
    header.epoch = tail.epoch;
    header.number = tail.number + 1;
    header.first_seq = tail.last_seq + 1;
    header.count = 1;
    header.time_ns = base::to_ns(at(0.2).wall);
    header.previous = tail.header;
    return header;
  }
  proto::Bytes forged(proto::BatchHeader header) const {
    proto::Bytes event;
    proto::append_event(event, header.first_seq, header.time_ns, 3, {{1, 1, 1}}, "\x80");
    header.root = proto::event_leaf(kTopic, event);
    proto::Bytes sealed;
    proto::append_header(sealed, header);
    const trust::Seal seal = stolen().sign(sealed);
    sealed.append(seal.data(), seal.size());
    proto::Bytes frame;
    proto::append_event_frame(frame, {kTopic, sealed, "", event});
    return frame;
  }
};

}  // namespace

TEST_CASE("replay: an old event is no event", "[attack]") {
  Following f;
  for (const proto::Bytes& frame : f.sent) CHECK_FALSE(f.hear(frame, 9));
  CHECK(f.subscriber.delivered.size() == 2);
  CHECK(f.subscriber.core->counts().duplicates == 2);
}

TEST_CASE("rollback: heads only go on, also over a restart", "[attack]") {
  Following f;
  f.beat(1);
  CHECK(f.hear(f.heads.at(0), 1.1) == Reject::StaleHead);
  CHECK(f.hear(f.heads.at(1), 1.1) == Reject::StaleHead);

  TestSubscriber restarted(f.publisher, f.subscriber.core->cursors());
  restarted.core->frame(f.publisher.announcement(), 0, at(2));
  restarted.believe(f.publisher, at(2));
  CHECK(restarted.core->frame(f.heads.at(0), 0, at(2)) == Reject::StaleHead);
  CHECK(restarted.core->streams(at(2)).at(0).state == StreamState::Stale);
  CHECK_FALSE(restarted.core->frame(f.publisher.head(at(2)), 0, at(2)));
}

TEST_CASE("freeze: who hears no new head knows that he hears nothing", "[attack]") {
  Following f;
  f.beat(1);
  CHECK(f.info(3.9).state == StreamState::Current);
  CHECK(f.info(4.1).state == StreamState::Stale);
  // What was heard before, repeated for ever, does not keep it fresh.
  f.hear(f.heads.back(), 5);
  CHECK(f.info(5).state == StreamState::Stale);
  CHECK_FALSE(f.beat(6));
  CHECK(f.info(6).state == StreamState::Current);
}

TEST_CASE("fast-forward: a stolen session key cannot jump ahead within the chain", "[attack]") {
  Following f;
  proto::BatchHeader header = f.next_header();
  header.first_seq = UINT64_MAX / 2;
  CHECK(f.hear(f.forged(header)) == Reject::BadChain);
  CHECK_FALSE(f.event(0.3));
  CHECK(f.subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}});
  CHECK(f.subscriber.questions.empty());
}

TEST_CASE("fast-forward: what jumps ahead beside the chain ends with the next epoch", "[attack]") {
  Following f;
  proto::BatchHeader header = f.next_header();
  header.number += 1000;
  header.first_seq = UINT64_MAX / 2;
  f.hear(f.forged(header));
  // Nobody can give what would lie between; it is named lost, and the numbers are jammed.
  for (double now = 1; now < 70; now += 0.5) f.subscriber.core->tick(at(now));
  REQUIRE(f.subscriber.gaps.size() == 1);
  f.event(70);
  CHECK(f.subscriber.delivered.back().second >= UINT64_MAX / 2);

  // The OpenPGP key says where the epoch really ended: with its next credential all is well.
  f.publisher.start(at(71));
  f.hear(f.publisher.announcement(), 71);
  f.beat(71);
  f.event(72);
  for (double now = 72; now < 75; now += 0.1) {
    f.subscriber.core->tick(at(now));
    f.subscriber.answer(f.publisher, at(now));
    f.subscriber.believe(f.publisher, at(now));
  }
  CHECK(f.subscriber.gaps.back().reason == GapReason::Rewound);
  CHECK(f.subscriber.delivered.back() == Positions::value_type(2, 4));
}

TEST_CASE("equivocation: of two histories nothing more is taken in that epoch", "[attack]") {
  Following f;
  CHECK_FALSE(f.hear(f.forged(f.next_header())));  // the thief was first
  CHECK(f.event(0.3) == Reject::Equivocation);
  CHECK(f.event(0.4) == Reject::Equivocation);
  f.publisher.start(at(1));
  f.hear(f.publisher.announcement(), 1);
  f.beat(1);
  CHECK_FALSE(f.event(2));
}

TEST_CASE("mix: an event is of its own batch only", "[attack]") {
  Following f;
  const proto::Bytes one = f.publisher.publish(at(0.3)), two = f.publisher.publish(at(0.4));
  const auto first = proto::decode_event_frame(one), second = proto::decode_event_frame(two);
  REQUIRE(first);
  REQUIRE(second);
  proto::Bytes mixed;
  proto::append_event_frame(mixed,
                            {second->topic, first->sealed_header, first->path, second->event});
  CHECK(f.hear(mixed) == Reject::BadIndex);
  CHECK(f.subscriber.delivered.size() == 2);
}

TEST_CASE("truncate and reorder: rows come whole and in order", "[attack]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher, {{publisher.id, {1, 0, 0, 0, 1}}});
  for (int i = 0; i < 4; ++i) publisher.publish(at(0.1 * i));
  subscriber.core->frame(publisher.announcement(), 0, at(1));
  subscriber.believe(publisher, at(1));
  subscriber.core->frame(publisher.head(at(1)), 0, at(1));
  const auto answer_with = [&](std::vector<proto::Bytes> rows, double seconds) {
    proto::Answer answer;
    answer.fields = proto::to_fields({4, false, 1, 4});
    answer.parts = std::move(rows);
    subscriber.core->tick(at(seconds));
    REQUIRE(subscriber.questions.size() == 1);
    subscriber.core->answered(std::exchange(subscriber.questions, {}).at(0).id, std::move(answer),
                              1, at(seconds));
  };
  const auto refused = [&](Reject why) {
    return subscriber.core->counts().refused[static_cast<std::size_t>(why)];
  };
  const auto rows = publisher.journal.read({1, 4, "", 1 << 20}).rows;
  answer_with({rows[1], rows[0], rows[2], rows[3]}, 1);
  CHECK(refused(Reject::BadOrder) == 1);
  CHECK(subscriber.delivered.empty());
  answer_with({rows[0].substr(0, rows[0].size() - 1), rows[1], rows[2], rows[3]}, 10);
  CHECK(refused(Reject::Truncated) == 1);
  CHECK(subscriber.delivered.empty());
  // Left out: what is behind it waits.
  answer_with({rows[0], rows[2], rows[3]}, 20);
  CHECK(subscriber.delivered == Positions{{1, 1}});
  answer_with({rows[1], rows[2], rows[3]}, 30);
  CHECK(subscriber.delivered.size() == 4);
}

TEST_CASE("withholding: who denies an event is found out by the next one", "[attack]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher, {{publisher.id, {1, 0, 0, 0, 1}}}, kTopic);
  for (int i = 0; i < 3; ++i) publisher.publish(at(0.1 * i), kTopic);
  publisher.publish(at(0.4), "org.example.dev.mirror.tree.t.update");
  subscriber.core->frame(publisher.announcement(), 0, at(1));
  subscriber.believe(publisher, at(1));
  // So long ago that no head names its topic any more.
  for (int beat = 1; beat <= 10; ++beat) (void)publisher.head(at(beat));
  subscriber.core->frame(publisher.head(at(11)), 0, at(11));
  const auto deny = [&](double seconds) {
    REQUIRE(subscriber.questions.size() == 1);
    proto::Answer answer;
    answer.fields = proto::to_fields({4, false, 1, 4});
    subscriber.core->answered(std::exchange(subscriber.questions, {}).at(0).id, std::move(answer),
                              1, at(seconds));
  };
  deny(11);
  CHECK(subscriber.core->streams(at(11)).at(0).position == 4);
  const bool restarted = GENERATE(false, true);
  if (restarted) {
    subscriber.core = std::make_unique<SubscriberCore>(
        TestSubscriber::options(kTopic, StartNow{}), TestSubscriber::policy(publisher.name),
        subscriber.core->cursors(), subscriber);
    subscriber.core->frame(publisher.announcement(), 0, at(11));
    subscriber.believe(publisher, at(11));
    subscriber.core->frame(publisher.head(at(11)), 0, at(11));
  }
  subscriber.core->frame(publisher.publish(at(12), kTopic), 0, at(12));
  CHECK(subscriber.delivered.empty());
  deny(12);  // once more: it is not believed any more
  CHECK(subscriber.delivered.empty());
  for (double now = 12; now < 20; now += 0.1) {
    subscriber.core->tick(at(now));
    subscriber.answer(publisher, at(now));
  }
  CHECK(subscriber.delivered == Positions{{1, 1}, {1, 2}, {1, 3}, {1, 5}});
  CHECK(subscriber.gaps.empty());
}

TEST_CASE("topic substitution: the topic is sealed with the event", "[attack]") {
  Following f;
  const proto::Bytes frame = f.publisher.publish(at(0.3));
  const auto parts = proto::decode_event_frame(frame);
  REQUIRE(parts);
  proto::Bytes changed;
  proto::append_event_frame(changed, {"org.example.dev.mirror.tree.t.update",
                                      parts->sealed_header, parts->path, parts->event});
  CHECK(f.hear(changed) == Reject::BadPath);
  CHECK_FALSE(f.hear(frame));
  CHECK(f.subscriber.delivered.size() == 3);
}

TEST_CASE("not entitled: what the policy does not allow is passed over and counted", "[attack]") {
  Following f;
  trust::Rule rule;
  rule.topics.push_back(*proto::TopicPattern::parse("org.example.dev.mirror.**"));
  rule.keys.push_back({f.publisher.name.scheme, f.publisher.name.fingerprint});
  f.subscriber.core->set_policy(trust::Policy({rule}));
  f.subscriber.believe(f.publisher, at(0.2));
  f.event(0.3);
  CHECK(f.subscriber.delivered.size() == 2);
  CHECK(f.subscriber.core->counts().denied == 1);
  f.event(0.4, "org.example.dev.mirror.tree.t.update");
  CHECK(f.subscriber.delivered.back() == Positions::value_type(1, 4));
}

TEST_CASE("downgrade: no signature is no weaker signature, and the reverse", "[attack]") {
  TestPublisher bare;
  bare.name = {proto::Scheme::None, "", "pub@example.org"};
  bare.id = bare.name.id();
  bare.start(at(0));
  // A rule for a key of the same publisher says nothing of who shows none …
  TestPublisher signing;
  TestSubscriber subscriber(signing);
  CHECK(subscriber.core->frame(bare.announcement(), 0, at(0)) == Reject::PolicyDenied);
  // … and a rule for unsigned streams nothing of who shows one.
  trust::Rule rule;
  rule.topics.push_back(*proto::TopicPattern::parse("**"));
  rule.publishers = {"pub@example.org"};
  rule.unsigned_streams = true;
  subscriber.core->set_policy(trust::Policy({rule}));
  CHECK(subscriber.core->frame(signing.announcement(), 0, at(0)) == Reject::PolicyDenied);
  CHECK_FALSE(subscriber.core->frame(bare.announcement(), 0, at(0)));
}

TEST_CASE("cross-protocol: what was sealed as one thing is nothing else", "[attack]") {
  Following f;
  const auto event = proto::decode_event_frame(f.sent.back());
  REQUIRE(event);
  // A batch header, validly sealed, as a head; and a head as a batch header.
  CHECK(f.hear(proto::encode_control(proto::ControlKind::Head, f.publisher.id,
                                     event->sealed_header)) == Reject::Truncated);
  const auto head = proto::decode_control(f.heads.back());
  REQUIRE(head);
  proto::Bytes frame;
  proto::append_event_frame(frame, {kTopic, head->payload.substr(0, proto::kSealedHeaderSize),
                                    event->path, event->event});
  CHECK(f.hear(frame) == Reject::BadMagic);
}

TEST_CASE("a credential is renewed without a gap, and the one before seals nothing more",
          "[credential]") {
  Following f;
  const proto::Bytes first = proto::decode_sealed(f.publisher.sealed)->document;
  double now = 1;
  for (int serial = 1; serial <= 20; ++serial) {
    f.publisher.renew(at(now));
    // The next events come before anybody has looked at the new credential …
    const proto::Bytes early = f.publisher.publish(at(now));
    f.subscriber.core->frame(f.publisher.announcement(), 0, at(now));
    CHECK(f.subscriber.core->frame(early, 0, at(now)) == Reject::UnknownCredential);
    f.subscriber.believe(f.publisher, at(now));
    // … and are had all the same.
    f.event(now + 0.1);
    for (int i = 0; i < 10; ++i, now += 0.1) {
      f.subscriber.core->tick(at(now));
      f.subscriber.answer(f.publisher, at(now));
    }
  }
  CHECK(f.subscriber.gaps.empty());
  CHECK(f.subscriber.delivered.size() == 42);
  // The first one is still good for its own time, and for what it sealed then; not for more.
  proto::BatchHeader header = f.next_header();
  header.credential = proto::credential_id(first);
  CHECK(f.hear(f.forged(header), now) == Reject::Superseded);
}
