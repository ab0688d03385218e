#include "services/mirror/asking_order.hpp"

#include "test/services/mirror/virtual_clock.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using mirror::AskingOrder;
using Who = std::vector<std::string>;

TEST_CASE("in a try each is asked once, in their order", "[asking]") {
  test::VirtualClock clock;
  AskingOrder turn;
  const Who who{"a", "b", "c"};
  const auto now = clock.time.mono;
  CHECK(turn.next(who, now) == "a");
  CHECK(turn.next(who, now) == "a");  // until it has come to nothing
  turn.failed("a");
  CHECK(turn.next(who, now) == "b");
  turn.misled("b", now);
  CHECK(turn.next(who, now) == "c");
  CHECK(turn.next({"b", "a"}, now).empty());
  turn.failed("c");
  CHECK(turn.next(who, now).empty());
  CHECK(turn.next({"a", "d"}, now) == "d");
}

TEST_CASE("whose word has come to nothing is asked last, for a while", "[asking]") {
  test::VirtualClock clock;
  AskingOrder turn;
  const Who who{"a", "b", "c"};
  const auto next = [&](const Who& some) { return turn.next(some, clock.time.mono); };
  turn.misled("a", clock.time.mono);
  turn.failed("b");
  turn.new_try();
  CHECK(next(who) == "b");  // what it had itself failed: it has misled nobody
  CHECK(next({"a"}) == "a");
  turn.failed("b");
  turn.failed("c");
  CHECK(next(who) == "a");  // last, but asked
  turn.new_try();
  clock.pass(AskingOrder::kMisled);
  CHECK(next(who) == "b");
  clock.pass(1s);
  CHECK(next(who) == "a");
  // And again, from then on.
  turn.misled("a", clock.time.mono);
  turn.new_try();
  clock.pass(AskingOrder::kMisled);
  CHECK(next(who) == "b");
}

TEST_CASE("who waits for a version itself holds up nobody who can ask another", "[asking]") {
  using Then = AskingOrder::Then;
  test::VirtualClock clock;
  AskingOrder turn;
  const Who who{"a", "b", "c"};
  const auto now = clock.time.mono;
  CHECK(turn.waits("a", who, now) == Then::AskAgain);  // it may have it in a moment
  CHECK(turn.next(who, now) == "a");
  CHECK(turn.waits("a", who, now) == Then::AskNext);
  CHECK(turn.next(who, now) == "b");
  turn.misled("b", now);
  CHECK(turn.next(who, now) == "c");
  CHECK(turn.waits("c", who, now) == Then::AskAgain);
  // There is nobody else: all who wait are asked anew, but not who has failed.
  CHECK(turn.waits("c", who, now) == Then::NobodyElse);
  CHECK(turn.next(who, now) == "a");
  CHECK(turn.waits("a", who, now) == Then::AskNext);
  CHECK(turn.next(who, now) == "c");
  CHECK(turn.waits("c", who, now) == Then::NobodyElse);
  turn.new_try();
  CHECK(turn.waits("a", {"a"}, now) == Then::AskAgain);
  CHECK(turn.waits("a", {"a"}, now) == Then::NobodyElse);
}

TEST_CASE("who has a version and always puts us off is left for the next", "[asking]") {
  using Then = AskingOrder::Then;
  test::VirtualClock clock;
  AskingOrder turn;
  const Who who{"a", "b"};
  const auto puts_off = [&](const char* endpoint) {
    return turn.puts_off(endpoint, who, clock.time.mono);
  };
  const auto next = [&] { return turn.next(who, clock.time.mono); };
  CHECK(puts_off("a") == Then::AskAgain);
  clock.pass(AskingOrder::kPatience - 1s);
  CHECK(puts_off("a") == Then::AskAgain);
  CHECK(next() == "a");
  clock.pass(1s);
  CHECK(puts_off("a") == Then::AskNext);
  CHECK(next() == "b");
  CHECK(puts_off("b") == Then::AskAgain);
  clock.pass(AskingOrder::kPatience);
  // All do: they are asked anew, in their turn.
  CHECK(puts_off("b") == Then::NobodyElse);
  CHECK(next() == "a");
  CHECK(puts_off("a") == Then::AskAgain);
  clock.pass(AskingOrder::kPatience);
  CHECK(puts_off("a") == Then::AskNext);
  // In the next try the other way about, until some time has passed.
  AskingOrder other;
  other.puts_off("a", who, clock.time.mono);
  clock.pass(AskingOrder::kPatience);
  other.puts_off("a", who, clock.time.mono);
  other.new_try();
  CHECK(other.next(who, clock.time.mono) == "b");
  clock.pass(AskingOrder::kMisled + 1s);
  CHECK(other.next(who, clock.time.mono) == "a");
}
