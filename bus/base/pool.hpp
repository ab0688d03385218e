// Threads for what blocks: gpg, fsync, hashing, a sync of a tree. A job is a plain function that
// touches nothing of the loop's; what it returns or throws comes back as a callback on the loop.
#pragma once

#include "bus/base/loop.hpp"

#include <exception>
#include <expected>
#include <memory>
#include <type_traits>
#include <utility>

namespace mirrorbus::base {

// A job's value, or what it threw. Outcome<void> for jobs that only do something.
template <class T>
using Outcome = std::expected<T, std::exception_ptr>;

class WorkerPool {
 public:
  WorkerPool(Loop& loop, unsigned threads);
  // Drops the jobs not yet begun and waits for the running ones. No `done` runs afterwards.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs `job()` on a worker, then `done(Outcome<T>)` on the loop. Jobs begin in the order given.
  // Loop thread only.
  template <class Job, class Done>
  void submit(Job job, Done done) {
    using T = std::invoke_result_t<Job&>;
    add([job = std::move(job), done = std::move(done)]() mutable -> Task {
      return
          [outcome = run<T>(job), done = std::move(done)]() mutable { done(std::move(outcome)); };
    });
  }

  // Before destruction, for jobs that may hang: drops those not yet begun and waits so long for the
  // running ones. Those that then still run are on their own, whatever else is destroyed.
  void leave_behind(Duration patience);
  // Waits until no job is queued or running. Their `done`s are then posted, not yet run.
  void wait_idle();
  std::size_t pending() const;  // queued and running

 private:
  // Runs on a worker and must not throw; gives what is to run on the loop.
  using Work = std::move_only_function<Task()>;
  struct Impl;

  template <class T, class Job>
  static Outcome<T> run(Job& job) noexcept {
    try {
      if constexpr (std::is_void_v<T>) {
        job();
        return {};
      } else {
        return job();
      }
    } catch (...) {
      return std::unexpected(std::current_exception());
    }
  }
  void add(Work work);

  std::shared_ptr<Impl>
      impl_;  // shared with posted results, which ask it whether they still matter
};

}  // namespace mirrorbus::base
