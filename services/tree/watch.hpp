// Watches a tree by inotify: one watch a directory. Events are hints, never truth: they say which
// directories to look at again, and lstat says what is there.
//
// One thread at a time. fd() becomes readable when drain() has something.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace mirrorbus::tree {

// What to look at again, paths below the root.
struct Dirty {
  bool all = false;                       // events were lost: everything
  std::vector<proto::Bytes> directories;  // these themselves
  std::vector<proto::Bytes> trees;        // new ones, with everything below

  bool any() const { return all || !directories.empty() || !trees.empty(); }
};

class Watch {
 public:
  // `skip`: directories not to watch (the work folder, what is excluded). Takes a walk over the
  // directories. Throws std::system_error if the root cannot be watched at all.
  Watch(std::string root, std::function<bool(const proto::Bytes& path)> skip);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  int fd() const { return fd_.get(); }
  Dirty drain();

  // Directories that could not be watched (the system's limit): what changes there is found by scans
  // only.
  std::uint64_t unwatched() const { return unwatched_; }
  std::size_t watched() const { return by_path_.size(); }

 private:
  void add_tree(const proto::Bytes& path);
  bool add(const proto::Bytes& path);
  void drop_tree(const proto::Bytes& path);
  std::string full(const proto::Bytes& path) const { return path.empty() ? root_ : root_ + "/" + path; }

  std::string root_;
  std::function<bool(const proto::Bytes&)> skip_;
  base::Fd fd_;
  std::unordered_map<int, proto::Bytes> by_watch_;
  std::map<proto::Bytes, int> by_path_;
  std::uint64_t unwatched_ = 0;
};

}  // namespace mirrorbus::tree
