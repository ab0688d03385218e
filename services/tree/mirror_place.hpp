// Where a mirrored tree is, and whether that is the directory it was: found before anything is
// changed. A first sync is made in the work folder and moved into place when it is done.
#pragma once

#include "services/tree/live_tree.hpp"
#include "services/tree/mirror_state.hpp"
#include "services/tree/mirror_tree.hpp"

namespace mirrorbus::tree {

class MirrorPlace {
 public:
  // `work`: the work folder.
  MirrorPlace(const MirrorSettings& settings, Index& index, MirrorState& state,
              const EntryOps& ops, int work)
      : settings_(settings), index_(index), state_(state), ops_(ops), work_(work) {}

  // Nothing, or why it must not be touched, for people. `adopt`: whatever is there is taken over.
  // `in_this_boot`: what a first sync left was left since the machine was started.
  std::optional<std::string> find(bool adopt, bool in_this_boot);

  // Where the next version of a snapshot mirror is built; find() is where the last one is.
  std::optional<std::string> find_new(bool adopt, bool in_this_boot, const Hash& tree_hash);

  // Once found:
  RootDir& root() { return found_->root; }
  LiveTree::Trust trust() const { return found_->trust; }
  // The root directory as it is, and as the index knows it.
  const proto::Entry& entry() const { return found_->entry; }
  const EntryStat& known_stat() const { return found_->known_stat; }
  bool looks_changed() const { return found_->looks_changed; }
  // Everything about it may have changed.
  void look_again();

  bool is_new() const { return found_->is_new; }   // found by find_new()
  bool is_fresh() const { return found_->fresh; }  // and there is nothing in it yet
  bool is_first() const { return found_->first; }
  bool is_unseen() const { return is_first() || is_new(); }
  // The whole tree appears at once. `mode`: the root's, as signed.
  void move_first(std::uint32_t mode);
  // Of a mirror with snapshots.
  Snapshots snapshots() const { return {link(), settings_.work, index_, ops_}; }
  // Where the settings are by_link().
  TreeLink link() const { return {settings_.path, settings_.work, settings_.subtree, ops_}; }

 private:
  struct Found {
    RootDir root;
    LiveTree::Trust trust;
    proto::Entry entry;
    EntryStat known_stat;
    bool looks_changed = true;
    bool first = false, is_new = false, fresh = false;
  };
  std::optional<std::string> find_newest();
  std::optional<std::string> find_known(const RootIdentity& identity, bool adopt);
  void found_at(const std::string& path, LiveTree::Trust trust);
  void make_first(bool in_this_boot);

  const MirrorSettings& settings_;
  Index& index_;
  MirrorState& state_;
  const EntryOps& ops_;
  int work_;
  std::optional<Found> found_;
};

}  // namespace mirrorbus::tree
