// Whether the contents of older versions beside the newest one are what was signed. A file that is
// one inode with that of the next version's path is left to the look at that. Metadata are not
// looked at. Internal to VerifyRun; throws as that does.
#pragma once

#include "services/tree/kept_check.hpp"
#include "services/tree/mirror_tree.hpp"

#include <functional>

namespace mirrorbus::tree {

class SnapshotCheck {
 public:
  SnapshotCheck(const MirrorSettings& settings, const Index& index, const Snapshots& snapshots)
      : settings_(settings), index_(index), snapshots_(snapshots) {}

  // Bytes that run() is going to read.
  std::uint64_t measure();
  // Adds what it reads and finds; `read` is told of bytes as they come.
  void run(KeptReport& into, const std::function<void(std::uint64_t bytes)>& read);

 private:
  struct File {
    int dir;
    const proto::Entry& entry;
    std::uint64_t size;
  };
  using Missing = std::function<void(Bytes&& path)>;
  using Visit = std::function<void(Bytes&& path, const File& file)>;
  void each(const Visit& visit, const Missing& missing);
  void each_of(const Snapshot& snapshot, const StoredVersion& version, const Snapshot& next,
               const Visit& visit, const Missing& missing);

  const MirrorSettings& settings_;
  const Index& index_;
  const Snapshots& snapshots_;
};

}  // namespace mirrorbus::tree
