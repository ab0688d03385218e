// Units of work that a helper thread and the caller do side by side, and whose results come back to
// the caller in the order the units were given: the caller prepares and collects (it owns the index),
// the helper makes system calls meanwhile.
#pragma once

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

  void run(Slot& slot, unsigned worker) noexcept {
    try {
      work_(slot.unit, worker);
    } catch (...) {
      slot.error = std::current_exception();
    }
  }
  // Does or waits for the oldest unit and hands it on. Only the caller adds and removes slots.
  void retire() {
    Slot& slot = slots_.front();
    std::unique_lock lock(mutex_);
    if (slot.state == State::Waiting) {
      slot.state = State::Running;
      lock.unlock();
      run(slot, 0);
    } else {
      changed_.wait(lock, [&slot] { return slot.state == State::Done; });
      lock.unlock();
    }
    if (slot.error) std::rethrow_exception(slot.error);
    sink_(slot.unit);
    lock.lock();
    slots_.pop_front();
  }
  void help() {
    std::unique_lock lock(mutex_);
    for (;;) {
      auto slot = slots_.begin();
      while (slot != slots_.end() && slot->state != State::Waiting) ++slot;
      if (stop_) return;
      if (slot == slots_.end()) {
        changed_.wait(lock);
        continue;
      }
      slot->state = State::Running;
      lock.unlock();
      run(*slot, 1);
      lock.lock();
      slot->state = State::Done;
      changed_.notify_all();
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
