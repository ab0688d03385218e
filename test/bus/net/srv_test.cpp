#include "bus/net/srv.hpp"

#include <algorithm>
#include <deque>
#include <map>

#include <catch2/catch.hpp>

using namespace mirrorbus::net;

namespace {
SrvRecord record(std::uint16_t priority, std::uint16_t weight, const std::string& target) {
  return {priority, weight, 9940, target, {}, true};
}
std::string names(const std::vector<SrvRecord>& records) {
  std::string out;
  for (const SrvRecord& r : records) out += r.target;
  return out;
}
// Draws as listed, each at most what was asked for.
RandomUpTo draws(std::deque<std::uint64_t> numbers) {
  return [numbers](std::uint64_t most) mutable {
    const std::uint64_t n = numbers.empty() ? 0 : numbers.front();
    if (!numbers.empty()) numbers.pop_front();
    CHECK(n <= most);
    return n;
  };
}
}  // namespace

TEST_CASE("lower priorities come first, whatever the weights", "[srv]") {
  const auto ordered =
      order_srv({record(20, 100, "c"), record(10, 0, "a"), record(15, 5, "b")}, system_random());
  CHECK(names(ordered) == "abc");
  CHECK(order_srv({}, system_random()).empty());
}

TEST_CASE("within a priority the draw falls on the running sum", "[srv]") {
  const std::vector<SrvRecord> records = {record(1, 3, "c"), record(1, 1, "a"), record(1, 2, "b")};
  // Sums over a, b, c: 1, 3, 6.
  CHECK(names(order_srv(records, draws({0, 0, 0}))) == "abc");
  CHECK(names(order_srv(records, draws({1, 2, 3}))) == "abc");
  CHECK(names(order_srv(records, draws({2, 2, 0}))) == "bca");  // then a, c: 1, 4
  CHECK(names(order_srv(records, draws({6, 0, 0}))) == "cab");
  CHECK(names(order_srv(records, draws({4, 3, 1}))) == "cba");
}

TEST_CASE("weight 0 has a chance, a small one", "[srv]") {
  CHECK(names(order_srv({record(1, 10, "b"), record(1, 0, "a")}, draws({0, 0}))) == "ab");
  CHECK(names(order_srv({record(1, 10, "b"), record(1, 0, "a")}, draws({1, 0}))) == "ba");
  CHECK(names(order_srv({record(1, 0, "b"), record(1, 0, "a")}, draws({0, 0}))) == "ab");
}

TEST_CASE("first places are taken in proportion to the weights", "[srv]") {
  std::map<std::string, int> first;
  const auto random = system_random();
  for (int i = 0; i < 20000; ++i)
    ++first[order_srv({record(1, 60, "a"), record(1, 30, "b"), record(1, 10, "c")}, random)[0]
                .target];
  // The draw has sum + 1 outcomes, so the shares are within 1/101 of the weights; 5 sigma besides.
  CHECK(std::abs(first["a"] - 12000) < 700);
  CHECK(std::abs(first["b"] - 6000) < 700);
  CHECK(std::abs(first["c"] - 2000) < 500);
}
