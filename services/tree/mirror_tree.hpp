// A mirrored tree on this machine: brings a directory to signed versions and can prove that it is
// there.
//
// Owns the tree's root and its staging; the index and the work folder are its owner's. Blocking and
// sequential: one job at a time, on any one thread. What is interrupted, by a crash at any system
// call too, is finished by the next bring_to(), whatever version that is for.
//
// Outcomes are values. What throws: SourceError (try again, or elsewhere), Cancelled, and
// std::system_error or std::runtime_error for this machine's troubles (disk full, I/O errors).
#pragma once

#include "bus/base/fd.hpp"
#include "proto/tree_update.hpp"
#include "services/tree/boot.hpp"
#include "services/tree/content_source.hpp"
#include "services/tree/deletions.hpp"
#include "services/tree/index.hpp"
#include "services/tree/kept_check.hpp"
#include "services/tree/live_tree.hpp"
#include "services/tree/metadata_policy.hpp"
#include "services/tree/pack_shelf.hpp"
#include "services/tree/progress.hpp"
#include "services/tree/retention.hpp"
#include "services/tree/snapshots.hpp"
#include "services/tree/stager.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

struct MirrorSettings {
  std::string path;  // where the tree is shown
  // Only this directory of the tree is shown: by a link, as with `snapshot`, into a tree that the
  // filter of `metadata` makes of it alone. Empty: all of it.
  std::string subtree;
  std::string work;  // the work folder, which is there: on the tree's filesystem, ours alone
  MetadataPolicy::Settings metadata;
  std::vector<std::string> last;  // patterns: names, or paths where they contain '/'
  DeleteLimit max_delete;
  std::uint64_t min_free_bytes = 0;
  bool adopt = false;  // take over a directory that is not empty and not known
  // What is kept for others: versions, and of their packs the newest, up to so many bytes (0: none
  // at all).
  Retention retain;
  std::uint64_t keep_packs_bytes = 0;
  // Paths that are no part of the tree: not looked at, and so left alone.
  std::function<bool(proto::ByteView path)> ignored;
  // `path` is a symbolic link to one of several versions, which lie in the work folder: Snapshots.
  bool snapshot = false;
  bool leave_index = false;  // what was done is for somebody else to notice and commit
  Probe* probe = nullptr;
  std::string boot = current_boot();

  base::Fd open_work() const;
  bool by_link() const { return snapshot || !subtree.empty(); }
  // Of the tree, unless there are several: Snapshots.
  std::string root() const { return subtree.empty() ? path : work + "/part"; }
};

// A signed version and what came with it.
struct TargetVersion {
  proto::TreeUpdate update;
  proto::Bytes body;    // the event's, and
  proto::Bytes sealed;  // the event as it came: both are kept, to be handed on
};

// Why nothing was done, and what accepting it would mean.
struct Refusal {
  proto::Reject why = proto::Reject::MaxDelete;
  std::string text;  // for people: the numbers, and the next step
  std::uint64_t number = 0;
  proto::Hash tree_hash;
  std::uint64_t from = 0;       // version committed
  std::uint64_t deletions = 0;  // MaxDelete, with the limit
  std::uint64_t limit = 0;
  std::vector<proto::Bytes> paths;  // the first ones

  // Whose number, or tree, or history it is comes first: whoever has seen a later objection to the same
  // version has accepted that.
  bool allows(const Refusal& version) const {
    return number == version.number && tree_hash == version.tree_hash && from == version.from;
  }
  // Whether the same thing was shown.
  bool same_as(const Refusal& other) const {
    return why == other.why && number == other.number && tree_hash == other.tree_hash &&
           from == other.from && deletions == other.deletions;
  }
};

struct SyncResult {
  enum class State {
    Committed,   // all of it, as far as `fidelity` says
    Incomplete,  // committed but for `missing`
    Unchanged,   // was there already
    Refused,     // see `refusal`
    Failed,      // the check found what repair did not mend: `mismatches`; nothing is committed
  };
  State state = State::Failed;
  std::uint64_t version = 0;  // committed now
  proto::Hash tree_hash;
  std::uint64_t bytes_received = 0;
  std::chrono::duration<double> fetching{}, staging{}, applying{}, checking{}, committing{};
  Fidelity fidelity;
  std::optional<Refusal> refusal;
  std::vector<MissingItem> missing;
  std::uint64_t missing_count = 0;
  std::vector<MissingItem> mismatches;
  LocalEdits edits;  // what somebody else had changed, and is overwritten
  std::uint64_t files_placed = 0, metadata_changed = 0, removed = 0;
  bool repaired = false;  // the first check failed
};

// What a full comparison found.
struct VerifyResult {
  struct Difference {
    proto::Bytes path;
    std::string what;
  };
  std::vector<Difference> differences;  // the first ones
  std::uint64_t count = 0;
  std::uint64_t files = 0, bytes = 0;  // read
  Fidelity fidelity;
  KeptReport kept;   // what lies beside the tree
  KeptReport older;  // versions beside the newest
  bool equal() const { return count == 0 && kept.count == 0 && older.count == 0; }
};

class MirrorTree {
 public:
  MirrorTree(MirrorSettings settings, Index& index);
  ~MirrorTree();

  const MirrorSettings& settings() const { return settings_; }

  // The newest version committed.
  std::optional<StoredVersion> committed() const;
  // What a committed version lacks.
  std::vector<MissingItem> missing() const;

  // Brings the tree to the last of `versions`. The others are the ones between it and the committed
  // version, as far as they are known: if their packs make a chain, these are used.
  // `accepted`: a refusal that an operator has seen.
  SyncResult bring_to(const std::vector<TargetVersion>& versions, ContentSource& source,
                      const WorkControl& control, const std::optional<Refusal>& accepted = {});

  // Forgets versions that have had their time, and packs nobody is going to ask for: after a sync,
  // and now and then.
  void retain(base::WallTime now);

  // Once, before anything else: the link and the versions as they should be after a crash.
  // std::runtime_error that says what to do if they are not this mirror's.
  void settle();
  // Of a mirror with snapshots. std::runtime_error if there is no such version.
  std::vector<Snapshot> snapshots() const;
  std::optional<Snapshot> pinned() const;
  // The link shows this version, whatever is committed, until unpin().
  void pin(std::uint64_t number);
  void unpin();
  bool sweep(const Snapshots::Keep& keep, base::WallTime now, std::size_t limit);

  // Reads index and packs, and the whole tree, which it compares with the committed version; not if
  // the index has rotted. Not to be cancelled.
  VerifyResult verify(const WorkControl& control = {});
  // Reads the whole tree again and mends what differs.
  SyncResult repair(ContentSource& source, const WorkControl& control);
  // Packs that have rotted are removed, and fetched if that can be done. False if there is more.
  bool mend_kept(const KeptReport& found, ContentSource& source);
  // Reads the files of older versions again, and puts right what is not as it was. After a repair of
  // the newest one, which may have shared what is spoilt. False if something is left.
  bool mend_older(ContentSource& source);
  // Brings in what the committed version lacks, and reads nothing else.
  SyncResult mend(ContentSource& source, const WorkControl& control);

  // The directory that was mirrored into is where it belongs. Throws if nobody can tell.
  bool in_place() const;

 private:
  std::vector<TargetVersion> committed_again() const;
  TreeLink shown_by() const;
  Snapshots held() const;
  PackShelf shelf() const;

  MirrorSettings settings_;
  Index& index_;
  EntryOps ops_;
};

}  // namespace mirrorbus::tree
