// A tree that nobody sees yet: a first sync, or a snapshot that is being built. A file is written
// where it belongs, with all its metadata: no name in staging before, no rename after, and its inode
// near its directory. Times come last, so that a file which has them was finished.
#pragma once

#include "proto/node.hpp"
#include "services/tree/metadata_policy.hpp"
#include "services/tree/root_dir.hpp"

#include <array>

namespace mirrorbus::tree {

class UnseenTree {
 public:
  UnseenTree(const RootDir& root, const EntryOps& ops, const MetadataPolicy& policy)
      : roots_{root.clone(), root.clone()}, ops_(ops), policy_(policy) {}

  // Makes the file `entry` in `directory`. False if something has its name already or something
  // stands against this one file; then nothing has changed. Throws what concerns all (disk full).
  // Each `worker` of a Pipeline on a thread of its own.
  bool put(proto::ByteView directory, const proto::Entry& entry, proto::ByteView content,
           unsigned worker);

 private:
  void write(int fd, const proto::Entry& entry, proto::ByteView content) const;

  std::array<RootDir, 2> roots_;
  const EntryOps& ops_;
  const MetadataPolicy& policy_;
};

}  // namespace mirrorbus::tree
