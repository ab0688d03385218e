#include "services/mirror/source_list.hpp"

#include "proto/sha256.hpp"
#include "test/services/mirror/virtual_clock.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using mirror::SourceList;
using State = SourceList::State;
using Order = std::vector<std::string>;

namespace {
proto::Hash item(int number) { return proto::sha256(std::to_string(number)); }
}  // namespace

TEST_CASE("a source is set aside for three distinct bad items, and comes back", "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  list.set({"a", "b", "a", ""});
  CHECK(list.order() == Order{"a", "b"});
  for (int again = 0; again < 5; ++again) list.bad("a", item(1), "x");
  list.bad("a", item(2), "x");
  CHECK(list.order() == Order{"a", "b"});
  list.bad("a", item(3), "the third");
  CHECK(list.order() == Order{"b"});
  CHECK(list.times_set_aside() == 1);
  const auto shown = list.places().front();
  CHECK(shown.state == State::SetAside);
  CHECK(shown.bad_items == 7);
  CHECK(shown.last_error == "the third");

  clock.pass(SourceList::kAside);
  CHECK(list.order() == Order{"a", "b"});
  // It has not changed its ways: twice as long.
  for (int number = 4; number < 7; ++number) list.bad("a", item(number), "x");
  clock.pass(SourceList::kAside);
  CHECK(list.order() == Order{"b"});
  clock.pass(SourceList::kAside);
  CHECK(list.order() == Order{"a", "b"});
}

TEST_CASE("where all are set aside they are asked all the same", "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  list.set({"a"});
  for (int number = 0; number < 3; ++number) list.bad("a", item(number), "x");
  CHECK(list.order() == Order{"a"});
  list.set({"a", "b"});
  CHECK(list.order() == Order{"b"});
  list.failed("b", "away");
  CHECK(list.order() == Order{"b", "a"});
}

TEST_CASE("a source that fails is asked last for a while", "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  list.set({"a", "b"});
  list.failed("a", "unreachable");
  CHECK(list.order() == Order{"b", "a"});
  CHECK(list.places().front().state == State::Failing);
  clock.pass(SourceList::kBackoff);
  CHECK(list.order() == Order{"a", "b"});
  list.failed("a", "unreachable");
  clock.pass(SourceList::kBackoff);
  CHECK(list.order() == Order{"b", "a"});
  list.delivered("a", 5);
  CHECK(list.order() == Order{"a", "b"});
  CHECK(list.places().front().bytes == 5);
}

TEST_CASE("what is remembered of places is bounded, and misbehaviour outlives a change of the list",
          "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  list.set({"liar"});
  for (int number = 0; number < 3; ++number) list.bad("liar", item(number), "x");
  for (int number = 0; number < 500; ++number) list.set({"place" + std::to_string(number)});
  list.set({"liar", "good"});
  CHECK(list.order() == Order{"good"});
}
