#include "services/tree/side_hash.hpp"

#include <system_error>

namespace mirrorbus::tree {
namespace {

constexpr std::uint64_t kHere = 4 << 20;    // less is not worth a thread
constexpr std::size_t kAtOnce = 512 << 10;  // what is passed on
constexpr std::size_t kQueued = 6;

}  // namespace

SideHash::~SideHash() { stop(); }

void SideHash::update(proto::ByteView bytes) {
  if (!thread_.joinable()) {
    hash_.update(bytes);
    size_ += bytes.size();
    if (size_ < kHere) return;
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      size_ = 0;  // no thread to be had: go on here
    }
    return;
  }
  gathered_ += bytes;
  if (gathered_.size() >= kAtOnce) pass_on();
}

proto::Hash SideHash::finish() {
  if (!gathered_.empty()) pass_on();
  stop();
  return hash_.finish();
}

void SideHash::pass_on() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.size() < kQueued; });
  queue_.push_back(std::move(gathered_));
  lock.unlock();
  changed_.notify_one();
  gathered_.clear();
  gathered_.reserve(kAtOnce);
}

void SideHash::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ended_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const proto::Bytes bytes = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    changed_.notify_one();
    hash_.update(bytes);
    lock.lock();
  }
}

void SideHash::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

}  // namespace mirrorbus::tree
