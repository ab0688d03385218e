// Watches a tree by inotify: one watch a directory, which takes a walk over the directories and
// memory for each.
#pragma once

#include "bus/base/fd.hpp"
#include "services/tree/watch.hpp"

#include <map>
#include <unordered_map>

namespace mirrorbus::tree {

class InotifyWatch final : public Watch {
 public:
  // Throws std::system_error if the root cannot be watched at all.
  InotifyWatch(std::string root, SkipDirectory skip);

  int fd() const override { return fd_.get(); }
  Dirty drain() override;
  std::uint64_t unwatched() const override { return unwatched_; }
  std::size_t watched() const { return by_path_.size(); }

 private:
  void add_tree(const proto::Bytes& path);
  bool add(const proto::Bytes& path);
  void drop_tree(const proto::Bytes& path);
  std::string full(const proto::Bytes& path) const {
    return path.empty() ? root_ : root_ + "/" + path;
  }

  std::string root_;
  SkipDirectory skip_;
  base::Fd fd_;
  std::unordered_map<int, proto::Bytes> by_watch_;
  std::map<proto::Bytes, int> by_path_;
  std::uint64_t unwatched_ = 0;
};

}  // namespace mirrorbus::tree
