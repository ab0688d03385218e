#include "proto/event.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <vector>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

const Bytes kBody("\x81\xa7message\xa2hi", 12);

Bytes event_bytes(std::uint64_t seq, const BackPointers& before) {
  Bytes out;
  append_event(out, seq, 1'763'640'000'123'456'789, 3, before, kBody);
  return out;
}

std::string why(ByteView bytes) {
  const auto event = decode_event(bytes);
  return event ? "accepted" : std::string(to_string(event.error()));
}

}  // namespace

TEST_CASE("an event survives", "[event]") {
  const Bytes bytes = event_bytes(1000, {{1, 300, 1000}});
  CHECK(mirrorbus::test::is_golden("event/event.bin", bytes));
  const auto event = decode_event(bytes);
  REQUIRE(event);
  CHECK(event->seq == 1000);
  CHECK(event->time_ns == 1'763'640'000'123'456'789);
  CHECK(event->base_segments == 3);
  CHECK(event->levels == 3);
  CHECK(event->body == kBody);
  // Within the base every event counts; below it each level points back for itself.
  CHECK(event->previous(0) == 999);
  CHECK(event->previous(3) == 999);
  CHECK(event->previous(4) == 999);
  CHECK(event->previous(5) == 700);
  CHECK(event->previous(6) == 0);
  CHECK(event->previous(9) == 0);
}

TEST_CASE("an event says where there is an event it points at", "[event]") {
  const Bytes bytes = event_bytes(1000, {{1, 300, 400}, 2});
  CHECK(mirrorbus::test::is_golden("event/event-exact.bin", bytes));
  const auto event = decode_event(bytes);
  REQUIRE(event);
  CHECK(event->exact == 2);
  CHECK(event->exact_at(0));
  CHECK(event->exact_at(3));
  CHECK(event->exact_at(5));
  CHECK_FALSE(event->exact_at(6));
  CHECK_FALSE(event->exact_at(9));
}

TEST_CASE("the example in event.md", "[event]") {
  Bytes bytes;
  REQUIRE(from_hex("0100000000000000000218"
                   "79d3c3b51a264003030102028"
                   "1a76d657373616765a26869", bytes));
  const auto event = decode_event(bytes);
  REQUIRE(event);
  CHECK(event->seq == 2);
  CHECK(event->previous(4) == 1);
  CHECK(event->previous(6) == 0);
  CHECK(event->body == kBody);
}

TEST_CASE("bad events are refused by name", "[event]") {
  const Bytes good = event_bytes(5, {{1, 2}});
  const auto with = [&](std::size_t at, char value) {
    Bytes bytes = good;
    bytes[at] = value;
    return bytes;
  };
  for (std::size_t size = 0; size < 22; ++size) CHECK(why(good.substr(0, size)) == "truncated");
  CHECK(why(with(0, 2)) == "bad_version");
  CHECK(why(with(1, 3)) == "bad_field");         // more exact levels than there are
  CHECK(why(with(9, 0)) == "bad_field");         // seq 0
  CHECK(why(with(20, 0)) == "bad_field");        // a back-pointer to itself
  CHECK(why(with(20, 6)) == "bad_field");        // to before the beginning
  CHECK(why(with(18, 31)) == "too_large");       // more levels than a topic has
  CHECK(why(good.substr(0, 20) + Bytes("\x81\x00\x01", 3)) == "not_canonical");
  CHECK(why(Bytes(kMaxEventSize + 1, 'x')) == "too_large");
}

TEST_CASE("a leaf binds topic and event", "[event]") {
  CHECK(event_leaf("a", "bc") != event_leaf("ab", "c"));
  CHECK(to_hex(event_leaf("a.b", "event").view()) ==
        "e7e864bf5d50d2285c89ab190b72a4f4aa2aa601b7dbe78056f89d6aeb7dadef");
}
