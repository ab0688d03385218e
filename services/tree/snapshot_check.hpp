// Whether the contents of older versions beside the newest one are what was signed. A file that is
// one inode with that of the next version's path is left to the look at that. Metadata are not
// looked at. Internal to MirrorTree; throws as its verify() does.
#pragma once

#include "services/tree/kept_check.hpp"
#include "services/tree/mirror_tree.hpp"

#include <functional>

namespace mirrorbus::tree {

class SnapshotCheck {
 public:
  SnapshotCheck(const MirrorSettings& settings, const Index& index, const Snapshots& snapshots)
      : settings_(settings), index_(index), snapshots_(snapshots) {}

  struct File {
    std::size_t at;  // among the versions, in their order
    const StoredVersion& version;
    const std::string& top;  // where the version lies
    const Bytes& path;       // in the tree
    int dir;                 // that it is in
    const proto::Entry& entry;
    std::optional<struct stat> now;  // nothing: it is missing
  };
  // Makes it what was signed, if that can be done.
  using Mend = std::function<bool(const File& file)>;

  // Bytes that run() is going to read.
  std::uint64_t measure();
  // Adds what it reads and finds; `read` is told of bytes as they come. What `mend` puts right is
  // not told.
  void run(KeptReport& into, const std::function<void(std::uint64_t bytes)>& read,
           const Mend& mend = {});

 private:
  // Of a whole directory.
  using Missing = std::function<void(Bytes&& path)>;
  using Visit = std::function<void(const File& file)>;
  void each(const Visit& visit, const Missing& missing);
  void each_of(std::size_t at, const Snapshot& snapshot, const StoredVersion& version,
               const Snapshot& next, const Visit& visit, const Missing& missing);

  const MirrorSettings& settings_;
  const Index& index_;
  const Snapshots& snapshots_;
};

}  // namespace mirrorbus::tree
