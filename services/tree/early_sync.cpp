#include "services/tree/early_sync.hpp"

#include <chrono>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {
namespace {

// More often costs more: what creates files waits for the filesystem's journal.
constexpr std::uint64_t kEvery = 384 << 20;

}  // namespace

EarlySync::EarlySync(int dir) : dir_(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

EarlySync::~EarlySync() = default;

void EarlySync::written(std::uint64_t bytes) {
  bytes_ += bytes;
  if (bytes_ >= kEvery) begin();
}

void EarlySync::begin() {
  if (!dir_) return;
  if (running_.valid() && running_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    return;
  bytes_ = 0;
  try {
    running_ = std::async(std::launch::async, [fd = dir_.get()] { (void)::syncfs(fd); });
  } catch (const std::system_error&) {
    // No thread to be had: it is all written in the end.
  }
}

}  // namespace mirrorbus::tree
