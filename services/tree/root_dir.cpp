#include "services/tree/root_dir.hpp"

#include "proto/tree_path.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Bytes;
using proto::ByteView;
using proto::last_name;
using proto::parent_path;

namespace {

// For reading if we may (so that it can be listed), else just to stand in.
base::Fd open_directory(int from, const Bytes& path, std::uint64_t resolve) {
  open_how how = {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = resolve;
  const auto call = [from, &path, &how] {
    for (;;) {
      const long fd = ::syscall(SYS_openat2, from, path.c_str(), &how, sizeof how);
      // EAGAIN: something was renamed while ".." safety was being judged.
      if (fd >= 0 || errno != EAGAIN) return base::Fd(static_cast<int>(fd));
    }
  };
  base::Fd fd = call();
  if (!fd && errno == EACCES) {
    how.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    fd = call();
  }
  return fd;
}

}  // namespace

RootDir::RootDir(const std::string& path) : root_(open_directory(AT_FDCWD, path + "/.", 0)) {
  if (!root_) throw_errno("open tree " + path);
}

RootDir::RootDir(base::Fd root) : root_(std::move(root)) {}

RootDir RootDir::clone() const {
  base::Fd copy(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw_errno("duplicate descriptor of a tree");
  return RootDir(std::move(copy));
}

base::Fd RootDir::open_beneath(int from, const Bytes& path) const {
  return open_directory(
      from, path, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

RootDir::Dir RootDir::open(ByteView path) {
  if (const auto found = by_path_.find(path); found != by_path_.end()) {
    recent_.splice(recent_.begin(), recent_, found->second);
    return found->second->dir;
  }
  base::Fd fd;
  const auto parent = path.empty() ? by_path_.end() : by_path_.find(parent_path(path));
  if (parent != by_path_.end())
    fd = open_beneath(parent->second->dir.get(), Bytes(last_name(path)));
  else
    fd = open_beneath(root_.get(), path.empty() ? Bytes(".") : Bytes(path));
  if (!fd) throw_errno("open directory " + Bytes(path));

  recent_.push_front({Bytes(path), Dir(std::move(fd))});
  by_path_.emplace(recent_.front().path, recent_.begin());
  if (recent_.size() > kCached) {
    by_path_.erase(recent_.back().path);
    recent_.pop_back();
  }
  return recent_.front().dir;
}

void RootDir::forget(ByteView path) {
  for (auto it = recent_.begin(); it != recent_.end();) {
    const ByteView held = it->path;
    const bool below = proto::within(path, held);
    if (below) {
      by_path_.erase(held);
      it = recent_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace mirrorbus::tree
