#include "bus/peer/prefix_map.hpp"

#include <catch2/catch.hpp>

using mirrorbus::peer::PrefixMap;
using Deltas = std::vector<std::uint64_t>;

TEST_CASE("back-pointers reach the last event under each prefix, or the floor", "[prefix]") {
  PrefixMap map(2, 100);
  // Nothing is known of before: anything may be there up to the floor.
  auto before = map.publish("a.b.c.d", 101);
  CHECK(before.deltas == Deltas{1, 1});
  CHECK(before.exact == 0);
  before = map.publish("a.b.c.e", 102);
  CHECK(before.deltas == Deltas{1, 2});
  CHECK(before.exact == 1);  // a.b.c was seen, a.b.c.e was not
  before = map.publish("a.b.c.d", 105);
  CHECK(before.deltas == Deltas{3, 4});
  CHECK(before.exact == 2);
}

TEST_CASE("what is forgotten is no longer pointed at exactly", "[prefix]") {
  PrefixMap map(1, 0, 64);
  map.publish("a.old", 1);
  for (std::uint64_t seq = 2; seq < 200; ++seq) map.publish("a.t" + std::to_string(seq), seq);
  CHECK(map.floor() > 1);
  const auto before = map.publish("a.old", 200);
  CHECK(before.exact == 0);
  CHECK(200 - before.deltas.at(0) == map.floor());
}
