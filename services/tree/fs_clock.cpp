#include "services/tree/fs_clock.hpp"

#include <stdexcept>

#include <fcntl.h>
#include <sys/stat.h>

namespace mirrorbus::tree {

FsClock::FsClock(int dir)
    : file_(::openat(dir, "clock", O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600)) {
  if (!file_) base::throw_errno("open the clock file in the work folder");
}

timespec FsClock::stamp() {
  struct stat st;
  if (::futimens(file_.get(), nullptr) != 0 || ::fstat(file_.get(), &st) != 0)
    base::throw_errno("reading the filesystem's clock");
  return st.st_ctim;
}

timespec FsClock::tick() {
  const timespec start = stamp();
  constexpr timespec kPause = {0, 500'000};
  for (int tries = 0; tries < 10'000; ++tries) {
    if (const timespec now = stamp(); before(start, now)) return now;
    ::nanosleep(&kPause, nullptr);
  }
  throw std::runtime_error("the filesystem's clock stands still");
}

}  // namespace mirrorbus::tree
