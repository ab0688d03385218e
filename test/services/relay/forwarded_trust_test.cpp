// What rows and heads must prove before a relay keeps them. Unsigned streams: without gpg.
#include "services/relay/forwarded_trust.hpp"

#include "test/bus/peer/core_fixture.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;

namespace {

struct Fixture : test::TestLoop {
  peer::test::TestPublisher publisher;
  std::vector<std::string> judged;
  relay::ForwardedTrust trust{loop, rules("pub@*"), base::Log(),
                              [this](const proto::Hash&,
                                     const proto::Decoded<peer::KnownCredential*>& known) {
                                judged.push_back(
                                    known ? "good" : std::string(to_string(known.error())));
                              }};

  Fixture() {
    publisher.name = {proto::Scheme::None, "", "pub@example.org"};
    publisher.id = publisher.name.id();
    publisher.start(clock.now());
  }
  static peer::TrustSettings rules(const char* publishers) {
    peer::TrustSettings trust;
    trust.allow.push_back({{"org.example.**"}, {}, {publishers}, true});
    return trust;
  }
  void believe() {
    REQUIRE(trust.offer(publisher.sealed, 1));
    REQUIRE(until([&] { return !judged.empty(); }));
    REQUIRE(judged == std::vector<std::string>{"good"});
  }
  proto::Bytes published() {
    (void)publisher.publish(clock.now());
    const std::uint64_t last = publisher.journal.tail().last_seq;
    return publisher.journal.read({last, last, "", 1 << 20}).rows.at(0);
  }
  std::string row(const proto::Bytes& bytes) {
    const auto row = trust.row(bytes, publisher.id, 1);
    return row ? "good" : std::string(to_string(row.error()));
  }
  std::string head(const proto::Bytes& sealed, const proto::Hash& stream) {
    const auto head = trust.head(sealed, stream, 1);
    return head ? "good" : std::string(to_string(head.error()));
  }
};

}  // namespace

TEST_CASE("a row that is not proven is refused by name", "[forward]") {
  Fixture f;
  const proto::Bytes bytes = f.published();
  CHECK(f.row(bytes) == "unknown_credential");
  f.believe();
  CHECK(f.row(bytes) == "good");
  const auto other = f.trust.row(bytes, proto::sha256("another"), 1);
  REQUIRE_FALSE(other);
  CHECK(other.error() == proto::Reject::WrongStream);
  CHECK(f.row(bytes.substr(0, bytes.size() - 1)) == "truncated");
  CHECK(f.row(bytes + "x") == "trailing_bytes");
  proto::Bytes changed = bytes;
  changed.back() ^= 1;  // in the event's body
  CHECK(f.row(changed) == "bad_root");
  changed = bytes;
  changed[proto::kHeaderSize] ^= 1;  // in the seal
  CHECK(f.row(changed) == "bad_signature");
  changed = bytes;
  changed[83] ^= 1;  // in the header's time
  CHECK(f.row(changed) == "bad_signature");
}

TEST_CASE("who proves nothing again and again is not listened to for a while", "[forward]") {
  Fixture f;
  const proto::Bytes bytes = f.published();
  f.believe();
  proto::Bytes changed = bytes;
  changed.back() ^= 1;
  for (unsigned i = 0; i < peer::SourceBudget::kFailures; ++i) CHECK(f.row(changed) == "bad_root");
  CHECK(f.row(bytes) == "source_cut");
  CHECK(f.trust.row(bytes, f.publisher.id, 2).has_value());  // from elsewhere
}

TEST_CASE("a head that is not proven is refused by name", "[forward]") {
  Fixture f;
  const proto::Bytes control = f.publisher.head(f.clock.now());
  const proto::Bytes sealed(proto::decode_control(control)->payload);
  CHECK(f.head(sealed, f.publisher.id) == "unknown_credential");
  f.believe();
  CHECK(f.head(sealed, f.publisher.id) == "good");
  CHECK(f.head(sealed, proto::sha256("another")) == "wrong_stream");
  proto::Bytes changed = sealed;
  changed.back() ^= 1;
  CHECK(f.head(changed, f.publisher.id) == "bad_signature");
  CHECK(f.head(sealed.substr(0, 40), f.publisher.id) == "truncated");
}

TEST_CASE("whom policy does not list is refused, also when it did before", "[forward]") {
  Fixture f;
  const proto::Bytes bytes = f.published();
  f.believe();
  const std::uint64_t time_ns = base::to_ns(f.clock.now().wall);
  const proto::Hash id = proto::credential_id(proto::decode_sealed(f.publisher.sealed)->document);
  CHECK(f.trust.live(id, time_ns));
  f.trust.set_trust(Fixture::rules("other@*"));
  CHECK(f.row(bytes) == "policy_denied");
  CHECK_FALSE(f.trust.live(id, time_ns));
  const auto again = f.trust.offer(f.publisher.sealed, 1);
  REQUIRE_FALSE(again);
  CHECK(again.error() == proto::Reject::PolicyDenied);
}
