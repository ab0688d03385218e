// How far a tree's work is: told by the worker, shown by the loop.
#pragma once

#include "services/mirror/tree_role.hpp"
#include "services/tree/progress.hpp"

#include <atomic>

namespace mirrorbus::mirror {

class ShownProgress {
 public:
  // Any thread, one at a time.
  void report(const tree::Progress& now) {
    phase_ = now.phase;
    bytes_ = now.bytes;
    bytes_total_ = now.bytes_total;
    files_ = now.files;
    files_total_ = now.files_total;
  }

  tree::Phase phase() const { return phase_; }
  void show(TreeStatus& status) const {
    status.phase = to_string(phase_.load());
    status.bytes_done = bytes_;
    status.bytes_total = bytes_total_;
    status.files_done = files_;
    status.files_total = files_total_;
    if (status.bytes_total > 0)
      status.progress =
          static_cast<double>(status.bytes_done) / static_cast<double>(status.bytes_total);
  }

 private:
  std::atomic<tree::Phase> phase_{tree::Phase::Planning};
  std::atomic<std::uint64_t> bytes_{0}, bytes_total_{0}, files_{0}, files_total_{0};
};

}  // namespace mirrorbus::mirror
