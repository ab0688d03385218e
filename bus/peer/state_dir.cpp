#include "bus/peer/state_dir.hpp"

#include <stdexcept>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace mirrorbus::peer {
namespace {

void make_directories(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const bool last = slash == std::string::npos;
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), last ? 0700 : 0755) != 0 && errno != EEXIST)
      base::throw_errno("making state directory " + part);
    if (last) return;
  }
}

}  // namespace

StateDir::StateDir(std::string path) : path_(std::move(path)) {
  make_directories(path_);
  const std::string file = *this / "lock";
  lock_ = base::Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) base::throw_errno("opening " + file);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
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
