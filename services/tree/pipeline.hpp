// Units of work that a helper thread and the caller do side by side, and whose results come back to
// the caller in the order the units were given: the caller prepares and collects (it owns the index),
// the helper makes system calls meanwhile.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

namespace mirrorbus::tree {

template <class Unit>
class Pipeline {
 public:
  static constexpr unsigned kWorkers = 2;
  // `worker` is 0 on the caller's thread, 1 on the helper's.
  using Work = std::function<void(Unit&, unsigned worker)>;
  using Sink = std::function<void(Unit&)>;

  // At most `depth` units are underway. An exception of `work` comes out of push() or finish().
  Pipeline(std::size_t depth, Work work, Sink sink)
      : depth_(depth), work_(std::move(work)), sink_(std::move(sink)) {}
  ~Pipeline() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (helper_.joinable()) helper_.join();
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  void push(Unit unit) {
    {
      const std::lock_guard lock(mutex_);
      slots_.emplace_back(std::move(unit));
    }
    // The first unit may well be the only one, and not worth a thread.
    if (slots_.size() > 1 && !helper_.joinable()) helper_ = std::thread([this] { help(); });
    changed_.notify_all();
    if (slots_.size() > depth_) retire();
  }
  void finish() {
    while (!slots_.empty()) retire();
  }

 private:
  enum class State { Waiting, Running, Done };
  struct Slot {
    explicit Slot(Unit&& u) : unit(std::move(u)) {}
    Unit unit;
    State state = State::Waiting;
    std::exception_ptr error;
  };

  // Does the oldest unit that nobody does; false if there is none. The lock is held, but for the work.
  bool work_on_one(std::unique_lock<std::mutex>& lock, unsigned worker) {
    const auto slot = std::ranges::find(slots_, State::Waiting, &Slot::state);
    if (slot == slots_.end()) return false;
    slot->state = State::Running;
    lock.unlock();
    try {
      work_(slot->unit, worker);
    } catch (...) {
      slot->error = std::current_exception();
    }
    lock.lock();
    slot->state = State::Done;
    return true;
  }
  // Hands on the oldest unit, and works until it is done. Only the caller adds and removes slots.
  void retire() {
    Slot& slot = slots_.front();
    std::unique_lock lock(mutex_);
    while (slot.state != State::Done)
      if (!work_on_one(lock, 0)) changed_.wait(lock);
    lock.unlock();
    if (slot.error) std::rethrow_exception(slot.error);
    sink_(slot.unit);
    lock.lock();
    slots_.pop_front();
  }
  void help() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (work_on_one(lock, 1))
        changed_.notify_all();
      else
        changed_.wait(lock);
    }
  }

  const std::size_t depth_;
  const Work work_;
  const Sink sink_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Slot> slots_;
  bool stop_ = false;
  std::thread helper_;
};

}  // namespace mirrorbus::tree
