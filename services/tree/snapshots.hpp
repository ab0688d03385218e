// Versions of a mirrored tree beside each other, each a directory in work/versions, and the
// symbolic link at the tree's path that shows one of them: `apply = "snapshot"`.
//
// A version is built in "new", named when it is good, then committed, then shown, and never written
// to again but by a repair. Files that did not change are one inode in all of them. Which versions
// there are is in the index; a directory that it does not know is what a crash left.
//
// Blocking, one thread, the index's. Errors: std::system_error, and std::runtime_error where an
// operator has to do something.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/base/fd.hpp"
#include "services/tree/entry_ops.hpp"
#include "services/tree/index.hpp"
#include "services/tree/retention.hpp"
#include "services/tree/tree_link.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

struct Snapshot {
  std::uint64_t number = 0;
  proto::Hash tree_hash;
  std::uint64_t time_ns = 0;    // the version's
  std::uint64_t ceased_ns = 0;  // when the link left it; 0: it has not, or never showed it
  Bytes name;                   // of the directory: the number, or number.2 if that was taken
};

class Snapshots {
 public:
  // `work`: the work folder, which readers can pass through.
  Snapshots(TreeLink link, const std::string& work, Index& index, const EntryOps& ops);

  // The index belongs to a mirror with snapshots.
  static bool any(const Index& index);
  // Where the newest version is; nothing if there is none. For another thread's connection.
  static std::optional<std::string> newest_path(const Index& index, const std::string& work);

  std::vector<Snapshot> all() const;  // in the order they were committed
  std::optional<Snapshot> newest() const;
  std::optional<Snapshot> pinned() const;
  std::string path_of(ByteView name) const;

  // After a start: what was being done is finished or taken back, and the link is right.
  void settle();

  // Where the next version is built: empty, or as far as an earlier run came.
  enum class Begun { Fresh, SameTarget, OtherTarget };
  Begun begin(const Hash& tree_hash);
  bool has_begun() const;
  std::string new_path() const { return path_of("new"); }
  // Nothing that was begun is of use.
  void drop_new();
  // What was built is this version: within a batch, on disk when it returns.
  void name_new(const proto::VersionRecord& record);
  // The link leads to the pinned version, else to the newest.
  void show();

  void pin(std::uint64_t number);
  void unpin();

  struct Keep {
    Retention retain;
    base::Duration grace;  // after the link left a version, for those who still read it
  };
  // Takes out what is beyond that, and frees up to `limit` names. Whether there is more to free.
  bool sweep(const Keep& keep, base::WallTime now, std::size_t limit);

 private:
  void put(const std::vector<Snapshot>& all);
  void trash(const Bytes& name);
  bool take_out(const Keep& keep, base::WallTime now);
  bool remove_some(int dir, const Bytes& name, std::size_t& left, int depth) const;
  bool is_begun(const Bytes& name) const;

  const TreeLink link_;
  const std::string work_;
  Index& index_;
  const EntryOps& ops_;
  base::Fd folder_;
};

}  // namespace mirrorbus::tree
