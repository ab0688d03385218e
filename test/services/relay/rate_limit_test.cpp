#include "services/relay/rate_limit.hpp"

#include <string>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using relay::RateLimit;

namespace {

int taken(RateLimit& limit, const std::string& client, base::MonoTime now, int tries) {
  int count = 0;
  for (int i = 0; i < tries; ++i) count += !limit.take(client, now);
  return count;
}

}  // namespace

TEST_CASE("a client may send a burst, then its rate", "[relay]") {
  RateLimit limit(10, 5);
  base::MonoTime now{1h};
  CHECK(taken(limit, "a", now, 20) == 5);
  CHECK(limit.take("a", now) == 100ms);
  CHECK(taken(limit, "a", now + 100ms, 20) == 1);
  CHECK(taken(limit, "a", now + 350ms, 20) == 2);
  // The half one left over counts.
  CHECK(taken(limit, "a", now + 400ms, 20) == 1);
  // However long it was away, a burst is a burst.
  CHECK(taken(limit, "a", now + 24h, 20) == 5);
}

TEST_CASE("clients do not take from each other", "[relay]") {
  RateLimit limit(1, 3);
  const base::MonoTime now{1h};
  CHECK(taken(limit, "a", now, 9) == 3);
  CHECK(taken(limit, "b", now, 9) == 3);
  CHECK(taken(limit, "a", now, 9) == 0);
}

TEST_CASE("other rates count from now on", "[relay]") {
  RateLimit limit(1, 3);
  const base::MonoTime now{1h};
  CHECK(taken(limit, "a", now, 9) == 3);
  limit.set(100, 2);
  CHECK(taken(limit, "a", now, 9) == 0);
  CHECK(taken(limit, "a", now + 10ms, 9) == 1);
  CHECK(taken(limit, "a", now + 1h, 9) == 2);
}

TEST_CASE("so many clients are kept, and who comes often stays", "[relay]") {
  RateLimit limit(1, 2, 100);
  const base::MonoTime now{1h};
  CHECK(taken(limit, "often", now, 9) == 2);
  for (int i = 0; i < 1000; ++i) {
    (void)limit.take("once " + std::to_string(i), now);
    CHECK(limit.take("often", now).has_value());
    CHECK(limit.clients() <= 100);
  }
  // A stranger's came and went.
  CHECK(taken(limit, "once 1", now, 9) == 2);
}
