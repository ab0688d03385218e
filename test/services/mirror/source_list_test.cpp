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
  list.set(SourceList::configured({"a", "b", "a", ""}));
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
  list.set(SourceList::configured({"a"}));
  for (int number = 0; number < 3; ++number) list.bad("a", item(number), "x");
  CHECK(list.order() == Order{"a"});
  list.set(SourceList::configured({"a", "b"}));
  CHECK(list.order() == Order{"b"});
  list.failed("b", "away");
  CHECK(list.order() == Order{"b", "a"});
}

TEST_CASE("a source that fails is asked last for a while", "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  list.set(SourceList::configured({"a", "b"}));
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
  list.set(SourceList::configured({"liar"}));
  for (int number = 0; number < 3; ++number) list.bad("liar", item(number), "x");
  for (int number = 0; number < 500; ++number)
    list.set(SourceList::configured({"place" + std::to_string(number)}));
  list.set(SourceList::configured({"liar", "good"}));
  CHECK(list.order() == Order{"good"});
}

TEST_CASE("a source that leads where it must not is asked only where there is no other",
          "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  const auto far = mirror::SourceReach::named_at("192.0.2.7");
  list.set({{"inward", far}, {"b", far}});
  list.refused("inward", "forbidden_address: 127.0.0.1");
  CHECK(list.order() == Order{"b"});
  CHECK(list.given_up("inward"));  // what it may have is not waited for
  CHECK(list.places().front().state == State::Refused);
  CHECK(to_string(State::Refused) == "refused");
  list.failed("b", "away");
  CHECK(list.order() == Order{"b"});
  list.set({{"inward", far}});
  CHECK(list.order() == Order{"inward"});
  clock.pass(SourceList::kBackoff);
  CHECK(list.state_of("inward") == State::Ready);
  list.refused("inward", "still");
  // Another's word is another matter.
  list.set({{"inward", far}, {"inward", mirror::SourceReach::named_at("127.0.0.1")}});
  CHECK(list.state_of("inward") == State::Ready);
  CHECK(list.reach_of("inward") == mirror::SourceReach::named_at("127.0.0.1"));
  CHECK(list.reach_of("never heard of") == mirror::SourceReach());
}

TEST_CASE("sources that are named later stand behind those there are", "[sources]") {
  test::VirtualClock clock;
  SourceList list(clock);
  const auto far = mirror::SourceReach::named_at("192.0.2.7");
  const auto here = mirror::SourceReach::named_at("127.0.0.1");
  list.set({{"a", far}, {"b", far}});
  list.refused("a", "forbidden_address: 127.0.0.1");
  list.failed("b", "away");
  list.add({{"c", far}, {"", far}, {"b", far}});
  CHECK(list.order() == Order{"c", "b"});
  list.add({{"a", here}});  // another's word for it
  CHECK(list.order() == Order{"a", "c", "b"});
  list.refused("a", "still");
  list.add({{"a", far}});  // nothing new, and not less
  CHECK(list.state_of("a") == State::Refused);
  auto both = far;
  both |= here;
  CHECK(list.reach_of("a") == both);
}
