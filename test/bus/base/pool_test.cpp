#include "bus/base/pool.hpp"

#include "test/support/test_loop.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::base;
using test::TestLoop;

TEST_CASE("a job's value comes back on the loop thread", "[pool]") {
  TestLoop t;
  WorkerPool pool(t.loop, 2);
  const auto here = std::this_thread::get_id();
  std::optional<int> got;
  pool.submit(
      [here] {
        if (std::this_thread::get_id() == here) throw std::logic_error("ran on the loop");
        return 42;
      },
      [&got, here](Outcome<int> outcome) {
        CHECK(std::this_thread::get_id() == here);
        got = outcome.value();
      });
  REQUIRE(t.until([&got] { return got.has_value(); }));
  CHECK(*got == 42);
}

TEST_CASE("jobs and results may be move-only, and may return nothing", "[pool]") {
  TestLoop t;
  WorkerPool pool(t.loop, 1);
  int sum = 0, finished = 0;
  pool.submit([p = std::make_unique<int>(4)]() mutable { return std::move(p); },
              [&sum, q = std::make_unique<int>(3)](Outcome<std::unique_ptr<int>> outcome) {
                sum = **outcome + *q;
              });
  pool.submit([] {}, [&finished](Outcome<void> outcome) { finished += outcome.has_value(); });
  REQUIRE(t.until([&finished] { return finished == 1; }));
  CHECK(sum == 7);
}

TEST_CASE("what a job throws comes back and the thread lives on", "[pool]") {
  TestLoop t;
  WorkerPool pool(t.loop, 1);
  std::string caught;
  bool after = false;
  pool.submit([]() -> int { throw std::runtime_error("disk on fire"); },
              [&caught](Outcome<int> outcome) {
                REQUIRE_FALSE(outcome);
                try {
                  std::rethrow_exception(outcome.error());
                } catch (const std::exception& error) {
                  caught = error.what();
                }
              });
  pool.submit([] { throw 7; }, [&after](Outcome<void> outcome) { after = !outcome; });
  REQUIRE(t.until([&after] { return after; }));
  CHECK(caught == "disk on fire");
}

TEST_CASE("destruction drops what is queued, awaits what runs, and silences results", "[pool]") {
  TestLoop t;
  std::promise<void> begun, release;
  std::atomic<int> ran = 0;
  int done = 0;
  {
    std::optional<WorkerPool> pool(std::in_place, t.loop, 1);
    pool->submit(
        [&begun, &ran, gate = release.get_future()]() mutable {
          begun.set_value();
          gate.wait();
          ++ran;
        },
        [&done](Outcome<void>) { ++done; });
    for (int i = 0; i < 10; ++i)
      pool->submit([&ran] { ++ran; }, [&done](Outcome<void>) { ++done; });
    begun.get_future().wait();
    CHECK(pool->pending() == 11);
    std::thread later([&release] { release.set_value(); });
    pool.reset();
    later.join();
  }
  CHECK(ran >= 1);
  t.settle();
  CHECK(done == 0);
}

TEST_CASE("wait_idle waits for the queue as well", "[pool]") {
  TestLoop t;
  WorkerPool pool(t.loop, 2);
  std::atomic<int> ran = 0;
  int done = 0;
  for (int i = 0; i < 100; ++i) pool.submit([&ran] { ++ran; }, [&done](Outcome<void>) { ++done; });
  pool.wait_idle();
  CHECK(ran == 100);
  CHECK(pool.pending() == 0);
  t.settle();
  CHECK(done == 100);
}

TEST_CASE("what hangs is left behind, and touches nothing that is gone", "[pool]") {
  std::promise<void> begun, release, left;
  std::future<void> end = left.get_future();
  int done = 0;
  {
    TestLoop t;
    WorkerPool pool(t.loop, 2);
    pool.submit(
        [&begun, gate = release.get_future(), left = std::move(left)]() mutable {
          begun.set_value();
          gate.wait();
          left.set_value_at_thread_exit();
        },
        [&done](Outcome<void>) { ++done; });
    begun.get_future().wait();
    pool.leave_behind(std::chrono::milliseconds(1));
  }
  release.set_value();
  end.wait();
  CHECK(done == 0);
}

TEST_CASE("what is done in time is not left behind", "[pool]") {
  TestLoop t;
  int done = 0;
  WorkerPool pool(t.loop, 1);
  pool.submit([] {}, [&done](Outcome<void>) { ++done; });
  pool.wait_idle();
  pool.leave_behind(std::chrono::seconds(10));
  CHECK(t.until([&done] { return done == 1; }));
}
