#include "bus/net/queue_limit.hpp"

#include <catch2/catch.hpp>

using mirrorbus::net::QueueLimit;

namespace {

// The last limit said while `count` messages of `size` bytes pass; 0 = none was.
int pass(QueueLimit& limit, std::size_t size, int count) {
  int said = 0;
  for (int i = 0; i < count; ++i)
    if (const auto now = limit.passed(size)) said = *now;
  return said;
}

}  // namespace

TEST_CASE("a queue's limit follows the sizes of messages", "[zmq]") {
  QueueLimit limit(32 << 20, 20'000);
  const int small = pass(limit, 600, 1024);
  CHECK(small > 40'000);
  CHECK(static_cast<std::size_t>(small) * 600 <= 32 << 20);
  // The first few large ones are enough to shorten it …
  const int large = pass(limit, 70'000, 256);
  CHECK(large == QueueLimit::kFewest);
  // … and it takes a while of small ones to lengthen it again.
  CHECK(pass(limit, 600, 256) == 0);
  CHECK(pass(limit, 600, 5000) > 20'000);
}

TEST_CASE("a queue's limit has bounds, and is said only when it has changed", "[zmq]") {
  QueueLimit limit(32 << 20, 20'000);
  CHECK(pass(limit, 0, 10'000) == QueueLimit::kMost);
  CHECK(pass(limit, 0, 10'000) == 0);
  CHECK(limit.messages() == QueueLimit::kMost);
  QueueLimit steady(20'000 * 1096, 20'000);
  CHECK(pass(steady, 1000, 100'000) == 0);
}
