// What a mirror keeps in its index beside the tree: whose it is, where, what it lacks, and whether
// it stands between two versions. Part of the index and its batches.
#pragma once

#include "services/tree/index.hpp"
#include "services/tree/metadata_policy.hpp"
#include "services/tree/stager.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

// What tells a tree's root from another directory: inode, device and filesystem id. A device
// number changes when a filesystem is mounted elsewhere, an id does not; where there are no ids, the
// device number has to do.
struct RootIdentity {
  std::uint64_t ino = 0, dev = 0, fsid = 0;

  static RootIdentity of(int fd);
  bool same(const RootIdentity& other) const {
    return ino == other.ino && (dev == other.dev || (fsid != 0 && fsid == other.fsid));
  }
};

class MirrorState {
 public:
  explicit MirrorState(Index& index) : index_(index) {}

  std::optional<Bytes> tree() const;  // the tree id that was pinned
  std::optional<RootIdentity> root() const;
  void set_root(const RootIdentity& root);
  // Of a first sync, which is made elsewhere and moved into place.
  std::optional<RootIdentity> first_root() const;
  void set_first_root(const RootIdentity& root);
  std::vector<MissingItem> missing() const;
  Fidelity fidelity() const;
  std::optional<Bytes> policy() const;

  // From here until commit() the tree is between two versions.
  void begin_applying(const Hash& tree_hash);
  bool applying() const;
  // Without a commit: somebody else makes sure of the tree.
  void end_applying();
  // What is half applied is not, or not only, of this version.
  bool applying_others(const Hash& tree_hash) const;

  struct Committed {
    const proto::TreeId& tree;
    RootIdentity root;
    Fidelity fidelity;
    std::string policy;
    const std::vector<MissingItem>& missing;
  };
  void commit(const Committed& now);
  // Now and then, when there are many more than there were after the last time.
  void forget_unused_xattr_sets();

 private:
  std::optional<RootIdentity> identity(std::string_view key) const;
  void set_identity(std::string_view key, const RootIdentity& root);
  Bytes half_applied() const;

  Index& index_;
};

}  // namespace mirrorbus::tree
