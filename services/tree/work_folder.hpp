// The folder a tree's daemon works in: staging, store, packs. On the tree's own mount, so that files
// move between the two by rename and link.
//
// Default `<parent>/.mirrorbus-<tree>/`, or, if another tree of that name lies in the same parent and
// came first, with `-<directory>` added. Proven by a trial rename, which fails across mounts even
// where st_dev is the same (a bind mount). Where the parent will not do: `<tree>/.mirrorbus/`, a name
// no node may hold, and a warning. One process at a time, by a lock in it.
#pragma once

#include "bus/base/fd.hpp"

#include <string>

namespace mirrorbus::tree {

class WorkFolder {
 public:
  enum class Mount {
    Same,  // nothing else will do (a mirror: it renames into the tree)
    Link,  // the tree is shown by a symbolic link and lies in the folder: others may pass through it
    Any,   // a configured folder may be elsewhere (an origin: it can do without links)
  };
  // `configured` may be empty. Throws std::runtime_error that says what to do: no place, a folder
  // that is not ours alone, or in use by another process.
  WorkFolder(const std::string& tree_path, const std::string& tree_name,
             const std::string& configured, Mount need);

  const std::string& path() const { return path_; }
  int fd() const { return dir_.get(); }
  bool same_mount() const { return same_mount_; }
  bool inside_tree() const { return inside_; }
  // Something an operator should know; empty if all is as it should be.
  const std::string& warning() const { return warning_; }
  // Makes the directory `name` in it, if need be, and returns its path.
  std::string subfolder(const std::string& name) const;

 private:
  std::string path_;
  base::Fd dir_, lock_;
  bool same_mount_ = false;
  bool inside_ = false;
  std::string warning_;
};

}  // namespace mirrorbus::tree
