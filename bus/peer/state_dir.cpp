#include "bus/peer/state_dir.hpp"

#include <stdexcept>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace mirrorbus::peer {
namespace {

constexpr int kLockTries = 20;
constexpr useconds_t kLockPauseUs = 50'000;  // for a second in all

// The names in a directory are on disk. A sync of what lies further down need not write them.
bool sync_names(const std::string& directory) {
  const base::Fd names(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return names && ::fsync(names.get()) == 0;
}

void make_directories(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const bool last = slash == std::string::npos;
    const std::string part = path.substr(0, slash);
    const bool made = ::mkdir(part.c_str(), last ? 0700 : 0755) == 0;
    if (!made && errno != EEXIST) base::throw_errno("making state directory " + part);
    // Or a power cut takes the directory away with all that was synced in it. Also one that was
    // there: an earlier run may have ended before it had done this; there it may not be ours to do.
    if (made || last) {
      const std::size_t name = part.rfind('/');
      const std::string parent = name == std::string::npos ? "."
                                 : name == 0               ? "/"
                                                           : part.substr(0, name);
      if (!sync_names(parent) && made) base::throw_errno("syncing " + parent);
    }
    if (last) return;
  }
}

// A daemon that was killed may have left a child between fork() and exec(), which has its descriptors
// for a moment still.
bool lock(int file) {
  for (int tries = 1;; ++tries) {
    if (::flock(file, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK || tries == kLockTries) return false;
    ::usleep(kLockPauseUs);
  }
}

}  // namespace

StateDir::StateDir(std::string path) : path_(std::move(path)) {
  make_directories(path_);
  const std::string file = *this / "lock";
  lock_ = base::Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) base::throw_errno("opening " + file);
  if (!lock(lock_.get())) {
    if (errno != EWOULDBLOCK) base::throw_errno("locking " + file);
    char pid[32] = "";
    (void)!::pread(lock_.get(), pid, sizeof pid - 1, 0);  // only to say more
    throw std::runtime_error(
        fmt::format("state directory {} is in use by process {}: stop that daemon first, or give "
                    "this one another [bus] state",
                    path_, std::stoul("0" + std::string(pid))));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock_.get(), 0) != 0 ||
      ::pwrite(lock_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
    base::throw_errno("writing " + file);
}

}  // namespace mirrorbus::peer
