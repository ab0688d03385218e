#include "services/relay/forwarded_stream.hpp"

#include "test/bus/peer/core_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using peer::test::at;
using relay::ForwardedStream;
using Place = ForwardedStream::Place;

namespace {

proto::Hash hash_of(std::uint64_t n) { return proto::sha256(std::to_string(n)); }

// The row that ends with `last`; its header's hash is hash_of(last).
proto::BatchHeader row(std::uint64_t epoch, std::uint64_t number, std::uint64_t first,
                       std::uint64_t last, const proto::Hash& previous) {
  proto::BatchHeader header;
  header.epoch = epoch;
  header.number = number;
  header.first_seq = first;
  header.count = static_cast<std::uint16_t>(last - first + 1);
  header.previous = previous;
  return header;
}

proto::Credential first_of(std::uint64_t epoch, std::uint64_t pin_epoch, std::uint64_t pin_last) {
  proto::Credential credential;
  credential.epoch = epoch;
  credential.pin = {pin_epoch, 2, pin_last, hash_of(pin_last)};
  return credential;
}

// Holds epoch 5 through seq 20: rows 1 (to 10) and 2 (to 20), sealed by serial 1.
ForwardedStream holding() { return ForwardedStream({5, 2, 20, hash_of(20), 1}, 1); }

std::string word(const proto::Decoded<Place>& place) {
  if (!place) return std::string(to_string(place.error()));
  return *place == Place::Next ? "next" : *place == Place::Held ? "held" : "after a hole";
}
std::string word(std::optional<proto::Reject> why) {
  return why ? std::string(to_string(*why)) : "taken";
}

proto::Head head(std::uint64_t epoch, std::uint64_t beat, std::uint64_t last,
                 std::uint64_t oldest = 1) {
  proto::Head head;
  head.epoch = epoch;
  head.beat = beat;
  head.time_ns = base::to_ns(at(0).wall);
  head.last = last;
  head.oldest = oldest;
  return head;
}

}  // namespace

TEST_CASE("a row goes on from the last one, or is refused by name", "[forward]") {
  ForwardedStream stream = holding();
  CHECK(word(stream.place(row(5, 3, 21, 30, hash_of(20)), 1)) == "next");
  CHECK(word(stream.place(row(5, 3, 21, 30, hash_of(20)), 2)) == "next");
  CHECK(word(stream.place(row(5, 3, 21, 30, hash_of(20)), 0)) == "superseded");
  CHECK(word(stream.place(row(5, 3, 21, 30, hash_of(19)), 1)) == "bad_chain");
  CHECK(word(stream.place(row(5, 4, 21, 30, hash_of(20)), 1)) == "bad_chain");
  CHECK(word(stream.place(row(5, 2, 21, 30, hash_of(20)), 1)) == "equivocation");
  CHECK(word(stream.place(row(5, 2, 11, 20, hash_of(10)), 1)) == "held");
  CHECK(word(stream.place(row(4, 9, 11, 20, hash_of(10)), 1)) == "held");
  CHECK(word(stream.place(row(4, 9, 21, 30, hash_of(20)), 1)) == "epoch_rollback");
  CHECK(word(stream.place(row(5, 9, 91, 99, hash_of(90)), 1)) == "bad_order");
}

TEST_CASE("a hole is taken on its publisher's signed word only", "[forward]") {
  ForwardedStream stream = holding();
  REQUIRE(word(stream.head(head(5, 1, 99, 91), "", at(0))) == "taken");
  CHECK(word(stream.place(row(5, 9, 91, 99, hash_of(90)), 1)) == "after a hole");
  CHECK(word(stream.place(row(5, 10, 92, 99, hash_of(91)), 1)) == "bad_order");
  ForwardedStream empty({}, 0);
  CHECK(word(empty.place(row(5, 1, 1, 9, {}), 0)) == "unknown_credential");
  CHECK_FALSE(empty.begins(first_of(5, 4, 50)));
  CHECK(word(empty.place(row(5, 1, 51, 59, hash_of(50)), 0)) == "bad_order");
  REQUIRE(word(empty.head(head(5, 1, 59, 51), "", at(0))) == "taken");
  CHECK(word(empty.place(row(5, 1, 51, 59, hash_of(50)), 0)) == "next");
}

TEST_CASE("an epoch begins where its first credential says", "[forward]") {
  ForwardedStream stream = holding();
  CHECK(word(stream.place(row(7, 1, 21, 30, hash_of(20)), 0)) == "unknown_credential");
  CHECK_FALSE(stream.begins(first_of(7, 5, 20)));
  CHECK(word(stream.place(row(7, 1, 21, 30, hash_of(20)), 0)) == "next");
  CHECK(word(stream.place(row(7, 1, 21, 30, hash_of(19)), 0)) == "bad_chain");
  CHECK(word(stream.place(row(7, 2, 21, 30, hash_of(20)), 0)) == "bad_chain");
  CHECK(word(stream.place(row(7, 1, 11, 20, hash_of(10)), 0)) == "bad_chain");
  // Another history than ours ends there too.
  proto::Credential other = first_of(8, 5, 20);
  other.pin.header = hash_of(77);
  CHECK_FALSE(stream.begins(other));
  CHECK(word(stream.place(row(8, 1, 21, 30, hash_of(77)), 0)) == "bad_chain");
}

TEST_CASE("what a restored publisher has lost is cut off, by its word", "[forward]") {
  ForwardedStream stream = holding();
  CHECK(stream.begins(first_of(5, 4, 10)) == std::nullopt);  // not a later epoch
  proto::Credential renewed = first_of(7, 5, 10);
  renewed.serial = 1;
  CHECK(stream.begins(renewed) == std::nullopt);  // not a first one
  CHECK(stream.begins(first_of(7, 5, 10)) == 10);
  stream.cut_off({5, 1, 10, hash_of(10), 1}, 1);
  CHECK(stream.how_far() == proto::ForwardAnswer{5, 10, hash_of(10)});
  CHECK(word(stream.place(row(7, 1, 11, 15, hash_of(10)), 0)) == "next");
  proto::Credential anew = first_of(9, 0, 0);
  anew.new_journal = true;
  CHECK(stream.begins(anew) == 0);
}

TEST_CASE("a head waits for its rows", "[forward]") {
  ForwardedStream stream = holding();
  CHECK(word(stream.head(head(5, 1, 30), "one", at(0))) == "taken");
  CHECK_FALSE(stream.release(at(0)));
  CHECK(word(stream.head(head(5, 2, 40), "two", at(0.1))) == "taken");
  const proto::BatchHeader next = row(5, 3, 21, 30, hash_of(20));
  stream.accept(next, hash_of(30), 1);
  CHECK_FALSE(stream.release(at(0.2)));  // not yet on disk
  stream.durable(next, hash_of(30), 1);
  CHECK(stream.release(at(0.3)) == "one");
  CHECK_FALSE(stream.release(at(0.3)));
  // Before its time comes others come; the newest is kept beside the next.
  CHECK(word(stream.head(head(5, 3, 50), "three", at(0.4))) == "taken");
  CHECK(word(stream.head(head(5, 4, 30), "four", at(0.5))) == "taken");
  CHECK(stream.release(at(0.5)) == "four");
  // One that waits too long gives way.
  CHECK(word(stream.head(head(5, 5, 60), "five", at(1))) == "taken");
  CHECK(word(stream.head(head(5, 6, 70), "six", at(2))) == "taken");
  CHECK_FALSE(stream.release(at(40)));
  stream.accept(row(5, 4, 31, 60, hash_of(30)), hash_of(60), 1);
  stream.durable(row(5, 4, 31, 60, hash_of(30)), hash_of(60), 1);
  CHECK_FALSE(stream.release(at(40)));
}

TEST_CASE("bad heads are refused by name", "[forward]") {
  ForwardedStream stream = holding();
  CHECK(word(stream.head(head(5, 1, 20), "", at(301))) == "clock_skew");
  CHECK(word(stream.head(head(4, 1, 20), "", at(0))) == "epoch_rollback");
  CHECK(word(stream.head(head(7, 1, 20), "", at(0))) == "unknown_credential");
  CHECK(word(stream.head(head(5, 2, 20), "", at(0))) == "taken");
  CHECK(word(stream.head(head(5, 2, 20), "", at(0))) == "stale_head");
  CHECK(word(stream.head(head(5, 1, 20), "", at(0))) == "stale_head");
  proto::Head other = head(5, 3, 20);
  other.batch = 2;
  other.header = hash_of(77);
  CHECK(word(stream.head(other, "", at(0))) == "equivocation");
  CHECK_FALSE(stream.begins(first_of(7, 5, 20)));
  CHECK(word(stream.head(head(7, 1, 20), "", at(0))) == "taken");
  CHECK(word(stream.head(head(5, 9, 20), "", at(0))) == "epoch_rollback");
}

TEST_CASE("what could not be written is asked for again", "[forward]") {
  ForwardedStream stream = holding();
  stream.accept(row(5, 3, 21, 30, hash_of(20)), hash_of(30), 1);
  CHECK_FALSE(stream.all_durable());
  CHECK(stream.how_far() == proto::ForwardAnswer{5, 20, hash_of(20)});
  stream.take_back();
  CHECK(stream.all_durable());
  CHECK(word(stream.place(row(5, 3, 21, 30, hash_of(20)), 1)) == "next");
}
