// The event loop: one thread runs it, and that thread owns every object that lives on it. Timers
// and descriptor watches are members of the objects that need them; other threads only post().
//
// What a callback throws leaves run(): a broken world ends the daemon, nothing is swallowed here.
#pragma once

#include "bus/base/clock.hpp"

#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace mirrorbus::base {

using Task = std::move_only_function<void()>;

class Loop {
 public:
  // `clock` outlives the loop. Timers run on the kernel's monotonic clock whatever `clock` says.
  explicit Loop(const Clock& clock);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Until stop(), also while there is nothing to do; returns at once if stop() came before. May be
  // called again afterwards.
  void run();
  // One callback, waiting for it at most `at_most`; false if none came. For tests and small tools.
  bool run_one(Duration at_most);
  void stop();           // any thread
  void post(Task task);  // any thread; runs on the loop thread, in the order posted

  Now now() const { return clock_.now(); }
  const Clock& clock() const { return clock_; }

  // For the .cpp files of bus/base and bus/net only.
  boost::asio::io_context& context();

 private:
  struct Impl;
  const Clock& clock_;
  std::unique_ptr<Impl> impl_;
};

// One callback later. Loop thread only. Once cancelled or destroyed the callback never runs, even
// if its time had come; starting a running timer replaces what it was to do.
class Timer {
 public:
  explicit Timer(Loop& loop);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void start(Duration after, Task task);
  void start_at(MonoTime when, Task task);
  void cancel();
  bool running() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the wait in flight, which may outlive the timer
};

// A callback when the loop has done what it is at, once however often it was asked for until then. Loop
// thread only. Destroyed, it never runs.
class Later {
 public:
  Later(Loop& loop, Task task);
  ~Later();
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  void ask();

 private:
  struct State;
  Loop& loop_;
  std::shared_ptr<State> state_;  // shared with the posted task, which may outlive us
};

// Watches a descriptor that somebody else owns and closes (libzmq, c-ares, libcurl): it is taken
// out of the loop again before the watch is destroyed, and never read, written or closed. Loop
// thread only. The owner keeps it open as long as the watch lives.
//
// Interest is level-triggered and stays until changed: the callback comes again while the condition
// holds. `readable` also tells of errors and hang-ups. While nothing is wanted, what happens there
// does not wake the loop. Destroying the watch in its callback is fine.
class FdWatch {
 public:
  using Callback = std::move_only_function<void(bool readable, bool writable)>;

  FdWatch(Loop& loop, int fd, Callback callback);
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  void want(bool readable, bool writable);

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the waits in flight, which may outlive the watch
};

}  // namespace mirrorbus::base
