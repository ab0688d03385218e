// Single rules of the subscriber that a storm of test/sim meets only now and then.
#include "test/bus/peer/core_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;

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
