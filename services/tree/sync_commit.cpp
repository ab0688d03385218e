#include "services/tree/sync_commit.hpp"

#include "services/tree/index_xattrs.hpp"

#include "proto/tree_path.hpp"

#include <sys/stat.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

SyncCommit::SyncCommit(MirrorJob& job, Comparison& comparison)
    : job_(job), comparison_(comparison), batch_(job.index) {
  job_.index.drop_pending();
}

void SyncCommit::take_out(const Plan& plan) {
  for (const Plan::Directory& dir : plan.dirs)
    if (!dir.stays() && !dir.source_only && plan.dirs[dir.parent].stays()) remove(dir.path);
}

void SyncCommit::put(const Plan::Directory& dir, const DirectoryRow& row) {
  // The plan went by what is on disk, which the index may have known nothing of.
  if (comparison_.live().differs(row.path) || !dir.exists) remove_what_is_not_in(row);
  job_.index.stage(row);
}

// Directories that the index has below and the target has not.
void SyncCommit::remove_what_is_not_in(const DirectoryRow& row) {
  const auto was = job_.index.directory(row.path);
  if (!was) return;
  proto::NodeReader olds(was->node);
  Entry old;
  while (olds.next(old)) {
    if (old.type != EntryType::Directory) continue;
    proto::NodeReader news(row.node);
    Entry now;
    bool stays = false;
    while (!stays && news.next(now) && now.name <= old.name)
      stays = now.name == old.name && now.type == EntryType::Directory;
    if (!stays) remove(proto::join_path(row.path, old.name));
  }
}

void SyncCommit::remove(const Bytes& path) {
  job_.index.each_directory(path, [&](const DirectoryRow& row) {
    // It may be out of the plan, and missing from its directory's node: it is counted once.
    if (const auto gone = job_.index.pending(row.path); gone && gone->removed) return true;
    const auto place = comparison_.policy().place(row.path);
    proto::NodeReader reader(row.node);
    Entry entry;
    for (std::size_t at = 0; reader.next(entry) && at < row.stats.size(); ++at)
      comparison_.policy().count(place, entry, row.stats[at], left_out_of_removed_);
    return true;
  });
  job_.index.stage_removal(path);
}

void SyncCommit::each_stats(
    const std::function<void(ByteView path, const std::vector<EntryStat>&)>& visit) const {
  job_.index.each_directory({}, [&](const DirectoryRow& row) {
    if (!job_.index.pending(row.path)) visit(row.path, row.stats);
    return true;
  });
  job_.index.each_pending(Index::Order::Forward, [&](const PendingRow& pending) {
    if (!pending.removed) visit(pending.row.path, pending.row.stats);
    return true;
  });
}

// By differences, unless all of it was gone through.
Fidelity SyncCommit::fidelity(const Checker& checker) const {
  Fidelity sum = checker.left_out();
  EntryStat root;
  root.flags = checker.root_flags();
  MetadataPolicy::count(root, sum);
  if (job_.committed && !comparison_.everything()) {
    Fidelity before = checker.left_out_before();
    before += left_out_of_removed_;
    if (const auto known = job_.index.root()) MetadataPolicy::count(known->stat, before);
    sum += job_.state.fidelity();
    sum -= before;
  }
  return sum;
}

void SyncCommit::commit(const TargetVersion& to, const Checker& checker,
                        const std::vector<MissingItem>& missing) {
  const TargetTree& target = job_.target;
  if (job_.place.is_first()) job_.place.move_first(target.root().entry.mode);
  if (job_.place.is_new()) job_.place.snapshots().name_new(to.update.record);
  const int root = job_.place.root().fd();
  struct stat st;
  if (::fstat(root, &st) != 0) base::throw_errno("stat the tree's root");
  EntryStat stat = EntryStat::of(st);
  stat.flags = checker.root_flags();
  const Fidelity left_out = fidelity(checker);
  job_.index.stage_root({target.root().entry, stat});
  for (const Hash& id : target.new_xattr_sets())
    job_.index.xattr_sets().keep(id, target.encoded(id));
  job_.state.commit({to.update.record.tree, RootIdentity::of(root), left_out,
                     job_.policy_name(), missing});

  StoredVersion version;
  version.record = to.update.record;
  version.root = target.root();
  version.pack = to.update.pack;
  version.body = to.body;
  version.sealed = to.sealed;
  version.announced = true;
  version.incomplete = !missing.empty();
  // An operator has accepted another history than the one that was here.
  if (job_.committed && job_.committed->record.number >= version.record.number &&
      !(job_.committed->record == version.record))
    job_.index.forget_versions_from(version.record.number);
  job_.index.commit_version(version, target.links_bytes(), target.owners_bytes());
  batch_.commit();
}

}  // namespace mirrorbus::tree
