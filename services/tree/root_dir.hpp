// The directory a tree lives in, held open, and the directories below it.
//
// Every directory is reached from this one descriptor by openat2 (Linux 5.6) with
// RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV: a path from outside cannot leave the
// tree, whatever it says and whatever is swapped in underneath while it is walked. A few
// directories stay open in a cache, because work goes through a tree in path order. Each thread has
// its own RootDir.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

namespace mirrorbus::tree {

class RootDir {
 public:
  // Shared: the cache may close a directory while its user still works in it.
  class Dir {
   public:
    int get() const { return fd_->get(); }

   private:
    friend class RootDir;
    explicit Dir(base::Fd fd) : fd_(std::make_shared<base::Fd>(std::move(fd))) {}
    std::shared_ptr<base::Fd> fd_;
  };

  // Opens `path`, whose own symlinks are the operator's and are followed.
  explicit RootDir(const std::string& path);
  explicit RootDir(base::Fd root);
  // A second one for another thread.
  RootDir clone() const;

  int fd() const { return root_.get(); }
  // The directory at a path below the root, "" the root itself; components separated by one '/'.
  // Throws std::system_error: ENOENT, ENOTDIR or ELOOP (not a directory), EXDEV (a mount point),
  // EACCES.
  Dir open(proto::ByteView path);
  // The cache forgets `path` and everything below: it was moved, replaced or removed.
  void forget(proto::ByteView path);

 private:
  static constexpr std::size_t kCached = 64;
  struct Cached {
    proto::Bytes path;
    Dir dir;
  };
  base::Fd open_beneath(int from, const proto::Bytes& path) const;

  base::Fd root_;
  std::list<Cached> recent_;  // the latest first
  std::unordered_map<proto::ByteView, std::list<Cached>::iterator> by_path_;
};

}  // namespace mirrorbus::tree
