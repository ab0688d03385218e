// Has the disk write what is staged while more of it comes, so that little is left when all must be
// on disk. Promises nothing. One thread.
#pragma once

#include "bus/base/fd.hpp"

#include <cstdint>
#include <future>

namespace mirrorbus::tree {

class EarlySync {
 public:
  explicit EarlySync(int dir);  // on the filesystem
  ~EarlySync();                 // waits for what is under way

  void written(std::uint64_t bytes);
  void begin();  // with what there is, if nothing is under way

 private:
  // Of its own: an error is told once for each open file, and is for the sync that counts.
  base::Fd dir_;
  std::uint64_t bytes_ = 0;
  std::future<void> running_;
};

}  // namespace mirrorbus::tree
