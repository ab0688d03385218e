#include "bus/base/pool.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace mirrorbus::base {

struct WorkerPool::Impl {
  explicit Impl(Loop& l) : loop(l) {}

  Loop& loop;
  std::mutex mutex;
  std::condition_variable more;
  std::condition_variable idle;
  std::deque<Work> queue;
  std::size_t running = 0;
  bool stopping = false;
  bool gone = false;  // loop thread only
  bool left_behind = false;
  std::vector<std::thread> threads;

  static void work(const std::shared_ptr<Impl>& self) {
    std::unique_lock lock(self->mutex);
    for (;;) {
      self->more.wait(lock, [&self] { return self->stopping || !self->queue.empty(); });
      if (self->stopping) return;
      Work work = std::move(self->queue.front());
      self->queue.pop_front();
      ++self->running;
      lock.unlock();
      Task result = work();
      work = nullptr;  // the job's captures die here, outside the lock
      lock.lock();
      if (self->left_behind) return;  // and there may be no loop any more
      self->loop.post([self, result = std::move(result)]() mutable {
        if (!self->gone) result();
      });
      --self->running;
      if (self->running == 0 && self->queue.empty()) self->idle.notify_all();
    }
  }
};

WorkerPool::WorkerPool(Loop& loop, unsigned threads) : impl_(std::make_shared<Impl>(loop)) {
  for (unsigned i = 0; i < threads; ++i)
    impl_->threads.emplace_back([impl = impl_] { Impl::work(impl); });
}

WorkerPool::~WorkerPool() {
  std::deque<Work> dropped;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    dropped.swap(impl_->queue);
  }
  impl_->more.notify_all();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->gone = true;
}

void WorkerPool::leave_behind(Duration patience) {
  std::deque<Work> dropped;
  std::unique_lock lock(impl_->mutex);
  dropped.swap(impl_->queue);
  if (impl_->idle.wait_for(lock, patience, [this] { return impl_->running == 0; })) return;
  impl_->left_behind = true;
  for (std::thread& thread : impl_->threads) thread.detach();
  impl_->threads.clear();
}

void WorkerPool::add(Work work) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->queue.push_back(std::move(work));
  }
  impl_->more.notify_one();
}

void WorkerPool::wait_idle() {
  std::unique_lock lock(impl_->mutex);
  impl_->idle.wait(lock, [this] { return impl_->running == 0 && impl_->queue.empty(); });
}

std::size_t WorkerPool::pending() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->running + impl_->queue.size();
}

}  // namespace mirrorbus::base
