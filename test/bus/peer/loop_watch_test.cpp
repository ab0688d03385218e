#include "bus/peer/loop_watch.hpp"

#include "test/support/test_loop.hpp"

#include <thread>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;

TEST_CASE("a loop that does not turn is named, and holds back the tick", "[daemon]") {
  test::TestLoop t;
  base::Loop other(t.clock);
  int ticks = 0;
  peer::LoopWatch watch(t.loop, 2ms, [&ticks] { ++ticks; });
  REQUIRE(t.until([&ticks] { return ticks == 2; }));
  watch.add("content", other);
  REQUIRE(t.until([&watch] { return watch.stuck().has_value(); }));
  CHECK(watch.stuck() == "content");
  const int before = ticks;
  t.settle();
  std::thread thread([&other] { other.run(); });
  REQUIRE(t.until([&ticks, before] { return ticks >= before + 2; }));
  CHECK_FALSE(watch.stuck());
  other.stop();
  thread.join();
}
