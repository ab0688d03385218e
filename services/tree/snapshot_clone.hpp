// The beginning of a snapshot mirror's next version: the committed one, with new directories and
// the same inodes. What is not as the index knows it is left out, and comes with the plan like anything
// else that is not there. Internal to SyncRun.
#pragma once

#include "services/tree/live_tree.hpp"
#include "services/tree/progress.hpp"

#include <unordered_set>

namespace mirrorbus::tree {

class SnapshotClone {
 public:
  struct Parts {
    const Index& index;
    RootDir& from;
    RootDir& to;
    const EntryOps& ops;
    const MetadataPolicy& policy;
    LiveTree& live;  // of `to`
    LocalEdits& edits;
    const WorkControl& control;
  };
  // `fresh`: `to` was empty, and `live` is told what is in it; else it has to look for itself.
  SnapshotClone(const Parts& parts, bool fresh) : p_(parts), fresh_(fresh) {}

  void run();

 private:
  void clone(const DirectoryRow& row);
  bool is_absent(const Bytes& path) const;
  EntryStat share(const Bytes& path, int from, int to, const proto::Entry& entry,
                  const EntryStat& was);
  std::optional<struct stat> copy(int from, int to, const proto::Entry& entry) const;
  void look_at_directories(ByteView path);

  Parts p_;
  const bool fresh_;
  std::unordered_set<Bytes> absent_;  // directories that are not there, though the index has a row
  std::vector<Bytes> parents_;        // directories with directories in them
  std::uint64_t files_ = 0;
};

}  // namespace mirrorbus::tree
