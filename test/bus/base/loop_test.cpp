#include "bus/base/loop.hpp"

#include "bus/base/fd.hpp"
#include "test/support/test_loop.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::base;
using namespace std::chrono_literals;
using test::TestLoop;

TEST_CASE("posted tasks run in order, from any thread", "[loop]") {
  TestLoop t;
  std::vector<int> seen;
  t.loop.post([&seen] { seen.push_back(1); });
  t.loop.post([&seen] { seen.push_back(2); });
  std::thread other([&t, &seen] { t.loop.post([&seen] { seen.push_back(3); }); });
  other.join();
  t.settle();
  CHECK(seen == std::vector{1, 2, 3});
}

TEST_CASE("run lasts until stop, and may be called again", "[loop]") {
  TestLoop t;
  int runs = 0;
  for (int i = 0; i < 2; ++i) {
    std::thread other([&t, &runs] {
      t.loop.post([&t, &runs] {
        ++runs;
        t.loop.stop();
      });
    });
    t.loop.run();
    other.join();
  }
  CHECK(runs == 2);
}

TEST_CASE("what a task throws leaves run", "[loop]") {
  TestLoop t;
  t.loop.post([] { throw std::runtime_error("broken world"); });
  CHECK_THROWS_WITH(t.loop.run(), "broken world");
}

TEST_CASE("a timer fires once, after its time", "[loop]") {
  TestLoop t;
  Timer timer(t.loop);
  int fired = 0;
  const auto start = t.clock.now().mono;
  timer.start(5ms, [&fired] { ++fired; });
  CHECK(timer.running());
  REQUIRE(t.until([&fired] { return fired > 0; }));
  CHECK(t.clock.now().mono - start >= 5ms);
  CHECK_FALSE(timer.running());
  t.settle();
  CHECK(fired == 1);
}

TEST_CASE("a cancelled, restarted or destroyed timer does not run what it was to do", "[loop]") {
  TestLoop t;
  int stale = 0, fresh = 0;
  std::optional<Timer> victim(std::in_place, t.loop);
  Timer cancelled(t.loop), restarted(t.loop);
  cancelled.start(0ms, [&stale] { ++stale; });
  restarted.start(0ms, [&stale] { ++stale; });
  victim->start(0ms, [&stale] { ++stale; });
  // All three are due, and are dealt with before they are called.
  t.loop.post([&cancelled, &restarted, &victim, &fresh] {
    cancelled.cancel();
    restarted.start(1ms, [&fresh] { ++fresh; });
    victim.reset();
  });
  REQUIRE(t.until([&fresh] { return fresh == 1; }));
  t.settle();
  CHECK(stale == 0);
  CHECK(fresh == 1);
}

TEST_CASE("a timer may be started again or destroyed in its own callback", "[loop]") {
  TestLoop t;
  int fired = 0;
  std::optional<Timer> timer(std::in_place, t.loop);
  timer->start(0ms, [&fired, &timer] {
    ++fired;
    timer->start(0ms, [&fired, &timer] {
      ++fired;
      timer.reset();
    });
  });
  REQUIRE(t.until([&timer] { return !timer; }));
  CHECK(fired == 2);
}

namespace {
struct Pair {
  Pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
      throw_errno("socketpair");
    a = Fd(ends[0]);
    b = Fd(ends[1]);
  }
  Fd a, b;
};
}  // namespace

TEST_CASE("a descriptor watch is level-triggered and follows the interest", "[loop]") {
  TestLoop t;
  Pair pair;
  int readable = 0, writable = 0;
  FdWatch watch(t.loop, pair.a.get(), [&readable, &writable](bool r, bool w) {
    readable += r;
    writable += w;
  });
  watch.want(true, false);
  t.settle();
  CHECK(readable == 0);
  REQUIRE(::write(pair.b.get(), "x", 1) == 1);
  REQUIRE(t.until([&readable] { return readable >= 3; }));  // nobody reads it, so it comes again
  watch.want(false, true);
  const int before = readable;
  REQUIRE(t.until([&writable] { return writable >= 2; }));
  CHECK(readable <= before + 1);
  watch.want(false, false);
  t.settle();
  const int quiet = writable;
  t.settle();
  CHECK(writable == quiet);
}

TEST_CASE("a watch that wants nothing does not wake the loop", "[loop]") {
  TestLoop t;
  Pair pair;
  const auto is_in_an_epoll = [&] {
    const std::string wanted = "tfd:" + std::string(9 - std::to_string(pair.a.get()).size(), ' ') +
                               std::to_string(pair.a.get()) + ' ';
    for (const auto& each : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
      std::ifstream info(each.path());
      for (std::string line; std::getline(info, line);)
        if (line.starts_with(wanted)) return true;
    }
    return false;
  };
  int calls = 0;
  std::optional<FdWatch> watch;
  watch.emplace(t.loop, pair.a.get(), [&](bool, bool) {
    ++calls;
    watch->want(false, false);
  });
  CHECK_FALSE(is_in_an_epoll());
  REQUIRE(::write(pair.b.get(), "x", 1) == 1);
  for (int turn = 1; turn <= 3; ++turn) {
    watch->want(true, false);
    CHECK(is_in_an_epoll());
    REQUIRE(t.until([&] { return calls == turn; }));
    CHECK_FALSE(is_in_an_epoll());
    t.settle();
    CHECK(calls == turn);
  }
  // Out and in again before the loop has heard of it.
  watch->want(true, false);
  watch->want(false, false);
  watch->want(true, false);
  REQUIRE(t.until([&] { return calls == 4; }));
}

TEST_CASE("a watch never closes the descriptor, even when destroyed in its callback", "[loop]") {
  TestLoop t;
  Pair pair;
  int calls = 0;
  std::optional<FdWatch> watch;
  watch.emplace(t.loop, pair.a.get(), [&watch, &calls](bool, bool) {
    ++calls;
    watch.reset();
  });
  watch->want(true, true);
  REQUIRE(::write(pair.b.get(), "x", 1) == 1);
  REQUIRE(t.until([&calls] { return calls > 0; }));
  t.settle();
  CHECK(calls == 1);
  CHECK(::fcntl(pair.a.get(), F_GETFD) >= 0);
  // It can be watched again.
  FdWatch again(t.loop, pair.a.get(), [&calls](bool, bool) { ++calls; });
  again.want(true, false);
  REQUIRE(t.until([&calls] { return calls > 1; }));
}
