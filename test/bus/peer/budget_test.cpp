// What strangers can make us do, and what they cannot: gpg, proofs, and room for credentials.
#include "test/bus/peer/core_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace mirrorbus::peer::test;
using namespace std::chrono_literals;
using proto::Reject;
using Came = CredentialBook::Came;

namespace {

proto::Bytes sealed(const TestPublisher& publisher, std::uint64_t epoch, std::uint32_t serial,
                    const std::string& signature) {
  return proto::encode_sealed(
      {proto::encode_credential(publisher.credential(epoch, serial, at(0))), signature});
}

// A book with the budget it is given and gpg as the test wants it.
struct Book {
  TestPublisher publisher;
  CredentialBook book{TestSubscriber::policy(publisher.name)};
  SourceBudget budget;
  double seconds = 0;

  proto::Decoded<KnownCredential*> offer(const proto::Bytes& bytes, Came came = Came::Announced,
                                         SourceId source = 0) {
    return book.offer(bytes, came, source, budget, at(seconds));
  }
  // Offered without hurry, and believed.
  proto::Hash good(std::uint64_t epoch, std::uint32_t serial, Came came = Came::Asked) {
    seconds += 1;
    KnownCredential* known = *offer(sealed(publisher, epoch, serial, "good"), came);
    REQUIRE(known);
    REQUIRE(book.judge(known->id, CredentialVerdict{publisher.name.fingerprint, 0}));
    return known->id;
  }
};

}  // namespace

TEST_CASE("gpg is started five times at once, then once a second, for each endpoint", "[budget]") {
  SourceBudget budget;
  for (int i = 0; i < 5; ++i) CHECK(budget.take_check(1, at(0).mono));
  CHECK_FALSE(budget.take_check(1, at(0.9).mono));
  CHECK(budget.take_check(2, at(0.9).mono));
  CHECK(budget.take_check(1, at(1.1).mono));
  CHECK_FALSE(budget.take_check(1, at(1.2).mono));
  int taken = 0;
  for (int i = 0; i < 100; ++i) taken += budget.take_check(1, at(1000).mono);
  CHECK(taken == 5);
}

TEST_CASE("after ten failures a stream is cut at that endpoint, each time for longer", "[budget]") {
  SourceBudget budget;
  const proto::Hash stream = proto::sha256("stream"), other = proto::sha256("other");
  double now = 0;
  const auto fail_until_cut = [&] {
    for (int i = 0; i < 9; ++i) REQUIRE_FALSE(budget.failed(1, stream, at(now).mono));
    REQUIRE(budget.failed(1, stream, at(now).mono));
  };
  fail_until_cut();
  CHECK(budget.cut(1, stream, at(4.9).mono));
  CHECK_FALSE(budget.cut(2, stream, at(4.9).mono));
  CHECK_FALSE(budget.cut(1, other, at(4.9).mono));
  CHECK_FALSE(budget.cut(1, stream, at(5.1).mono));
  now = 6;
  fail_until_cut();
  CHECK(budget.cut(1, stream, at(15.9).mono));
  CHECK_FALSE(budget.cut(1, stream, at(16.1).mono));
  // Long after, it is as if nothing had been.
  now = 1000;
  fail_until_cut();
  CHECK_FALSE(budget.cut(1, stream, at(1006).mono));
}

TEST_CASE("invented streams do not fill the memory", "[budget]") {
  SourceBudget budget;
  for (int i = 0; i < 20'000; ++i)
    budget.failed(1, proto::sha256(std::to_string(i)), at(i / 100.0).mono);
  SUCCEED();  // bounded by kMaxRecords; a sanitizer's or a reader's eyes see it
}

TEST_CASE("what was refused once is not checked again, another signature is", "[budget]") {
  Book b;
  const proto::Bytes forged = sealed(b.publisher, 1, 0, "forged");
  KnownCredential* known = *b.offer(forged);
  REQUIRE(known);
  REQUIRE_FALSE(b.book.judge(known->id, proto::refuse(Reject::BadSignature)));
  CHECK(b.offer(forged).error() == Reject::BadSignature);
  KnownCredential* again = *b.offer(sealed(b.publisher, 1, 0, "good"));
  REQUIRE(again);
  REQUIRE(b.book.judge(again->id, CredentialVerdict{b.publisher.name.fingerprint, 0}));
  CHECK(*b.offer(sealed(b.publisher, 1, 0, "good")) == nullptr);

  SECTION("until the keyring changes") {
    b.book.renew(TestSubscriber::policy(b.publisher.name));
    const proto::Bytes newer = sealed(b.publisher, 2, 0, "by a key not known yet");
    KnownCredential* first = *b.offer(newer);
    REQUIRE(first);
    REQUIRE_FALSE(b.book.judge(first->id, proto::refuse(Reject::UnknownSigner)));
    CHECK(b.offer(newer).error() == Reject::UnknownSigner);
    b.book.renew(TestSubscriber::policy(b.publisher.name));
    CHECK(b.offer(newer).value() != nullptr);
  }
  SECTION("gpg itself failing is not remembered") {
    const proto::Bytes newer = sealed(b.publisher, 2, 0, "good");
    REQUIRE_FALSE(b.book.judge((*b.offer(newer))->id, proto::refuse(Reject::Unavailable)));
    CHECK(b.offer(newer).value() != nullptr);
  }
}

TEST_CASE("an announcement is checked only if it is news", "[budget]") {
  Book b;
  b.good(5, 2);
  CHECK(b.offer(sealed(b.publisher, 5, 1, "good")).error() == Reject::Superseded);
  CHECK(b.offer(sealed(b.publisher, 4, 9, "good")).error() == Reject::Superseded);
  CHECK(b.offer(sealed(b.publisher, 5, 1, "good"), Came::Asked).value() != nullptr);
  CHECK(b.offer(sealed(b.publisher, 5, 3, "good")).value() != nullptr);
}

TEST_CASE("no gpg for a key that no rule lists, nor for a source that has used up its turns",
          "[budget]") {
  Book b;
  TestPublisher stranger;
  stranger.name.fingerprint = proto::Bytes(20, 'z');
  CHECK(b.offer(sealed(stranger, 1, 0, "good")).error() == Reject::PolicyDenied);
  for (std::uint32_t i = 0; i < 5; ++i)
    CHECK(b.offer(sealed(b.publisher, 9, i, "forged")).value() != nullptr);
  CHECK(b.offer(sealed(b.publisher, 9, 5, "forged")).error() == Reject::Busy);
  CHECK(b.offer(sealed(b.publisher, 9, 5, "good"), Came::Announced, 7).value() != nullptr);
}

TEST_CASE("forged credentials take no room among the good, old ones not the newest's", "[budget]") {
  Book b;
  const proto::Hash newest = b.good(1000, 0);
  for (std::uint64_t i = 0; i < 200; ++i) {
    b.seconds += 1;
    KnownCredential* known = *b.offer(sealed(b.publisher, 2000 + i, 0, "forged"));
    REQUIRE(known);
    REQUIRE_FALSE(b.book.judge(known->id, proto::refuse(Reject::BadSignature)));
  }
  REQUIRE(b.book.find(newest));
  // A replay works its way through old times.
  const auto held = b.book.share(b.good(1, 0));
  for (std::uint64_t epoch = 2; epoch < 200; ++epoch) {
    const proto::Hash id = b.good(epoch, 0);
    REQUIRE(b.book.find(id));
    REQUIRE(b.book.find(newest));
  }
  // What was dropped is not believed by whoever still holds it.
  CHECK(held->state == KnownCredential::State::Refused);
}

TEST_CASE("an endpoint that sends forgeries is cut, the same stream elsewhere is not", "[budget]") {
  TestPublisher publisher;
  TestSubscriber subscriber(publisher);
  subscriber.core->frame(publisher.announcement(), 1, at(0));
  subscriber.believe(publisher, at(0));
  CHECK_FALSE(subscriber.core->frame(publisher.head(at(0)), 1, at(0)));

  for (int i = 0; i < 10; ++i) {
    proto::Bytes forged = publisher.head(at(1));
    forged.back() ^= 1;
    CHECK(subscriber.core->frame(forged, 2, at(1)) == Reject::BadSignature);
  }
  CHECK(subscriber.core->counts().cuts == 1);
  CHECK(subscriber.core->frame(publisher.head(at(1)), 2, at(1)) == Reject::SourceCut);
  const proto::Bytes event = publisher.publish(at(1));
  CHECK(subscriber.core->frame(event, 2, at(1)) == Reject::SourceCut);
  CHECK_FALSE(subscriber.core->frame(event, 1, at(1)));
  CHECK(subscriber.delivered == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{1, 1}});
  CHECK_FALSE(subscriber.core->frame(publisher.head(at(8)), 2, at(8)));
}
