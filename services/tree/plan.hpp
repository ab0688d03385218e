// What has to be done to make a directory tree equal to a signed one: computed, not done.
//
// Pure: it sees the tree as it is through OldTree and the signed nodes through TargetNodes, and
// gives operations in the order they are carried out (the tree protocol's "Applying"). Operations
// name entries by position (directory, place in its node), so a million of them are some tens of
// megabytes.
//
// Inodes are what moves, not paths. An inode the target has and the tree has not is made once
// (`inodes`): out of an old inode that is going away (Take: a link, whatever its size), a copy of
// one that stays (Copy, Same), the source (Fetch), or nothing (Make). Equal contents stay apart,
// and groups of names that are one inode come out as one.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_version.hpp"
#include "services/tree/entry_stat.hpp"
#include "services/tree/metadata_policy.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

namespace mirrorbus::tree {

inline constexpr std::uint32_t kNone = UINT32_MAX;

// A directory as it is (or was known to be when its stats were taken). An entry whose stat has no
// inode number is not known to be there, or not known to have that content.
struct OldDirectory {
  proto::Node node;
  std::vector<EntryStat> stats;  // parallel
  // Names seen to share their inode with others, wherever those are; empty if none was looked at.
  std::vector<bool> linked;
  static bool known(const EntryStat& stat) { return stat.ino != 0; }
};

class OldTree {
 public:
  virtual ~OldTree() = default;
  // `stat` is what the directory above has for it; `target` what it is to become, if it stays.
  // Asked in tree order; nothing if it is not there.
  virtual std::optional<OldDirectory> directory(proto::ByteView path, const EntryStat& stat,
                                                const proto::Node* target) = 0;
  // The node that is known for a directory that is not there: the policy leaves it out.
  virtual std::optional<proto::Hash> listed(proto::ByteView path) {
    (void)path;
    return std::nullopt;
  }
  // Node ids do not tell what is there, at `path` or below it: look.
  virtual bool uncertain(proto::ByteView path) = 0;
  // Calls `found` for every regular file known to have a content that is wanted, wherever it is.
  using Found = std::function<void(proto::ByteView directory, std::uint32_t at,
                                   const proto::Entry& entry, const EntryStat& stat)>;
  using Wanted = std::function<bool(const proto::Hash&)>;
  virtual void find_contents(const Wanted& wanted, const Found& found) = 0;
};

class TargetNodes {
 public:
  virtual ~TargetNodes() = default;
  // The encoded node. Throws std::runtime_error where it is missing: the caller made sure of them.
  virtual proto::Bytes encoded(const proto::Hash& id) const = 0;
  proto::Node node(const proto::Hash& id) const;
};

struct Plan {
  // Every directory an operation names, those above before those below, in tree order but for some
  // at the end that only contents are taken from.
  struct Directory {
    proto::Bytes path;
    proto::Entry entry;            // its own in the target (or the root's), without the name
    proto::Hash id;                // its node in the target; zero if it goes
    std::uint32_t parent = kNone;  // none for the root
    std::uint32_t at = kNone;      // its entry in the parent's target node
    std::uint32_t was = kNone;     // and in the parent's old node
    bool exists = false;           // as a directory
    bool differs = false;       // its own metadata, from what it was
    bool entered = false;          // its entries were compared
    bool names_change = false;     // so its mtime has to be set again
    bool unlock = false;           // its owner may not work in it: chmod u+rwx first
    bool left_out = false;         // not made, nor what is in it: only the index shall know it
    bool source_only = false;      // nothing happens to it but that contents are taken from it
    bool stays() const { return !id.is_zero(); }
  };

  enum class Source : std::uint8_t { Make, Take, Copy, Same, Fetch };
  struct NewInode {
    std::uint32_t dir, at;          // one of its names: Entry in the target
    std::uint32_t uses = 0;         // names it gets
    std::uint32_t from = kNone;     // Take, Copy: directory; Same: another NewInode
    std::uint32_t from_at = kNone;  // Take, Copy: place in the old node
    Source source = Source::Make;
    std::uint64_t size = 0;
    proto::Hash content;  // of a regular file
  };
  // An inode that stays at a name of its group, which others are linked to.
  struct Kept {
    std::uint32_t dir, at, was;
  };
  struct Op {
    std::uint32_t dir;
    std::uint32_t at;    // in the target node
    std::uint32_t was;   // in the old node, or none
    std::uint32_t from;  // place: NewInode; link: Kept; change: none
  };
  struct Member {
    std::uint32_t dir, at, group;
    auto operator<=>(const Member&) const = default;
  };

  std::vector<Directory> dirs;
  std::vector<NewInode> inodes;
  std::vector<Kept> kept;

  std::vector<std::uint32_t> make;                     // 1: directories, in order
  std::vector<Op> place, link;                         // 2
  std::vector<Op> change;                              // 3: metadata only
  std::vector<Op> place_last, link_last, change_last;  // 4
  std::vector<Op> remove;                              // 5: non-directories
  std::vector<std::uint32_t> remove_dirs;              //    with everything in them
  std::vector<std::uint32_t> finish;                   // 6: directories' metadata, backwards

  // Entries to look at again afterwards: (directory, place in the target node), sorted.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> touched;
  // The groups among them whose names must share an inode (and share it with nothing else).
  std::vector<Member> members;
  bool root_changes = false;  // its own metadata has to be set

  bool empty() const;
  std::uint64_t bytes_to_fetch() const;  // before any pack helps
  std::uint64_t bytes_to_write() const;
};

struct PlanInput {
  OldTree& old;
  std::optional<proto::Entry> old_root;  // absent: there is no tree yet
  EntryStat old_root_stat;
  const TargetNodes& nodes;
  const proto::TreeRoot& root;
  std::uint64_t entries = 0;  // signed count; a tree with more is refused
  const proto::LinksTable& old_links;
  const proto::LinksTable& links;
  const MetadataPolicy& policy;
  std::function<bool(proto::ByteView path)> last;   // empty: nothing is last
  std::function<bool(const proto::Hash&)> offered;  // a pack has it; empty: there is none
  bool everything = false;  // enter all directories: ids do not tell what has to be compared
  bool privileged = true;   // permission bits do not stop us
  // Inodes have names in other versions, too: they are replaced where they differ, never changed,
  // and taken only for what is equal in all.
  bool shared = false;
};

// BadCount: more entries than signed. BadField: links that name no file, or unlike ones. TooLarge:
// a path longer than kMaxPathSize.
proto::Decoded<Plan> make_plan(const PlanInput& input);

}  // namespace mirrorbus::tree
