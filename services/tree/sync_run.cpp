#include "services/tree/sync_run.hpp"

#include "services/tree/snapshot_clone.hpp"
#include "services/tree/snapshot_cost.hpp"
#include "services/tree/sync_commit.hpp"

#include <fmt/format.h>

#include <unistd.h>

namespace mirrorbus::tree {

using proto::Reject;
using proto::VersionRecord;
using Trust = LiveTree::Trust;

namespace {

void sync_filesystem(int fd) {
  if (::syncfs(fd) != 0) base::throw_errno("syncfs");
}

class Stopwatch {
 public:
  explicit Stopwatch(std::chrono::duration<double>& into) : into_(into) {}
  ~Stopwatch() { into_ += std::chrono::steady_clock::now() - start_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::chrono::duration<double>& into_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

SyncRun::SyncRun(const MirrorSettings& settings, Index& index,
                 const std::vector<TargetVersion>& versions, ContentSource& source,
                 const WorkControl& control)
    : versions_(versions),
      to_(versions.back()),
      source_(source),
      control_(control),
      job_(settings, index),
      judge_(settings, job_.committed, to_.update.record),
      staging_(job_.work.get(), job_.ops, settings.boot),
      clock_(job_.work.get()),
      chain_(job_.work.get(), job_.target, index, control) {}

SyncResult SyncRun::bring_to(const std::optional<Refusal>& accepted, bool hash_everything) {
  const std::uint64_t received = source_.bytes_received();
  result_.state = run(accepted, hash_everything);
  result_.bytes_received = source_.bytes_received() - received;
  if (const auto now = job_.index.newest()) {
    result_.version = now->record.number;
    result_.tree_hash = now->record.tree_hash;
  }
  result_.fidelity = job_.state.fidelity();
  return std::move(result_);
}

SyncResult::State SyncRun::run(const std::optional<Refusal>& accepted, bool hash_everything) {
  if (auto why = judge_.version(job_.state.tree()); why && !(accepted && accepted->allows(*why)))
    return refused(std::move(*why));
  if (nothing_to_do() && !hash_everything) return State::Unchanged;
  if (auto why = know_target()) return refused(std::move(*why));
  if (auto why = judge_.deletions(job_.target); why && !(accepted && accepted->same_as(*why)))
    return refused(std::move(*why));
  staging_.sort_leftovers();
  const bool snapshot = job_.settings.snapshot && !hash_everything;
  if (snapshot)
    if (auto why = afford_snapshot()) return refused(std::move(*why));
  if (auto why = find_place(accepted, hash_everything)) return refused(std::move(*why));
  comparison_.emplace(job_, to_.update.record,
                      hash_everything ? Trust::Hashes : job_.place.trust(), result_.edits);
  if (snapshot) begin_snapshot();
  Round done = round();
  if (done == Round::Bad) done = repair();
  if (done == Round::Refused) return State::Refused;
  if (done == Round::Bad) return State::Failed;
  if (snapshot)
    job_.place.snapshots().show();
  else if (!job_.settings.snapshot && !job_.settings.subtree.empty())
    job_.place.link().lead_to("part");
  staging_.clear();
  job_.cache.clear();
  chain_.clear();
  return result_.missing_count > 0 ? State::Incomplete : State::Committed;
}

SyncResult::State SyncRun::refused(Refusal&& why) {
  result_.refusal = std::move(why);
  return State::Refused;
}

bool SyncRun::nothing_to_do() const {
  return job_.committed && job_.committed->record == to_.update.record &&
         !job_.committed->incomplete && !job_.state.applying() && !job_.policy_changed();
}

std::optional<Refusal> SyncRun::know_target() {
  Stopwatch watch(result_.fetching);
  const VersionRecord& record = to_.update.record;
  proto::Decoded<void> known;
  if (!chain_.open(versions_, job_.committed, source_))
    known = job_.target.fetch(source_, record.tree_hash, record.counts, control_);
  if (known) known = job_.target.fetch_xattr_sets(source_, control_);
  if (known) return {};
  return judge_.refusal(known.error(),
                        fmt::format("the signed tree is not well-formed: {}",
                                    to_string(known.error())));
}

std::optional<Refusal> SyncRun::find_place(const std::optional<Refusal>& accepted,
                                           bool repairs) {
  const bool adopt =
      job_.settings.adopt || (accepted && accepted->why == Reject::UnsafeTarget &&
                              accepted->tree_hash == to_.update.record.tree_hash);
  const bool in_this_boot = staging_.left_in_this_boot();
  std::optional<std::string> why;
  if (job_.settings.snapshot && !repairs) {
    why = job_.place.find_new(adopt, in_this_boot, to_.update.record.tree_hash);
  } else {
    why = job_.place.find(adopt, in_this_boot);
    // What was begun has links to what is going to be replaced.
    if (job_.settings.snapshot) job_.place.snapshots().drop_new();
  }
  if (!why) return {};
  return judge_.refusal(Reject::UnsafeTarget, std::move(*why));
}

std::optional<Refusal> SyncRun::afford_snapshot() {
  // What is there of it already, and what a filter leaves out, is for the plan to say.
  if (job_.place.snapshots().has_begun() || job_.settings.metadata.filter.hash()) return {};
  const auto& committed = job_.committed;
  const SnapshotCost cost = snapshot_cost(
      job_.target, committed ? std::optional(committed->root.entry.content) : std::nullopt,
      job_.target.root().entry.content, to_.update.record.counts.directories,
      job_.settings.metadata);
  return judge_.space(cost.bytes(), job_.work.get());
}

// The version committed, by its links.
void SyncRun::begin_snapshot() {
  const Snapshots snapshots = job_.place.snapshots();
  const auto newest = snapshots.newest();
  if (!newest) return;
  Stopwatch watch(result_.staging);
  RootDir from(snapshots.path_of(newest->name));
  SnapshotClone({job_.index, from, job_.place.root(), job_.ops, comparison_->policy(),
                 comparison_->live(), result_.edits, control_},
                job_.place.is_fresh())
      .run();
  job_.place.look_again();
}

SyncRun::Round SyncRun::repair() {
  result_.repaired = true;
  // Where everything is has just been looked at by the check; what it could not vouch for, and
  // whatever else changed meanwhile, is looked at again.
  job_.place.look_again();
  staging_.sort_leftovers();
  return round();
}

SyncRun::Round SyncRun::round() {
  result_.missing.clear();
  result_.mismatches.clear();
  result_.missing_count = 0;
  auto planned = comparison_->plan([this](const Hash& content) { return chain_.offers(content); });
  if (!planned) {
    refused(judge_.refusal(planned.error(), fmt::format("the signed tree contradicts itself: {}",
                                                        to_string(planned.error()))));
    return Round::Refused;
  }
  Plan& plan = *planned;
  if (auto why = judge_.space(plan.bytes_to_write(), job_.work.get())) {
    refused(std::move(*why));
    return Round::Refused;
  }
  job_.ops.step(Probe::Step::Planned);
  RootDir& root = job_.place.root();
  LiveTree& live = comparison_->live();
  const MetadataPolicy& policy = comparison_->policy();
  std::optional<UnseenTree> unseen;
  if (job_.place.is_unseen()) unseen.emplace(root, job_.ops, policy);
  Stager stager({plan, job_.target, live, root, staging_, policy, result_.edits, control_,
                 unseen ? &*unseen : nullptr});
  ItemErrors errors;
  Applier applier({plan, job_.target, live, root, staging_, stager.staged(), policy,
                   result_.edits, errors, control_});
  stage(stager, applier);
  // What nobody sees has time until it is shown.
  if (!unseen && !plan.inodes.empty()) sync_filesystem(job_.work.get());
  job_.ops.step(Probe::Step::Staged);

  if (!plan.empty()) job_.state.begin_applying(to_.update.record.tree_hash);
  const timespec begun = clock_.tick();
  {
    Stopwatch watch(result_.applying);
    applier.run();
  }
  const timespec ended = clock_.tick();
  job_.ops.step(Probe::Step::Applied);
  const Checker::Parts parts{plan, job_.target, live, root, stager.staged(), job_.ops, policy,
                             control_, begun, ended,
                             [this](ByteView path) { return job_.index.directory(path); },
                             job_.settings.snapshot};
  return check_and_commit(plan, parts, applier, stager, errors);
}

void SyncRun::stage(Stager& stager, Applier& applier) {
  {
    Stopwatch watch(result_.staging);
    stager.from_the_tree();
    chain_.contents(stager, staging_, job_.place.root(), source_);
  }
  if (!stager.wanted().empty()) {
    Stopwatch watch(result_.fetching);
    if (job_.place.is_unseen()) applier.make_directories();
    stager.fetch(source_);
  }
  Stopwatch watch(result_.staging);
  stager.finish();
}

SyncRun::Round SyncRun::check_and_commit(const Plan& plan, const Checker::Parts& parts,
                                         const Applier& applier, Stager& stager,
                                         const ItemErrors& errors) {
  Checker checker(parts, applier.suspects());
  SyncCommit commit(job_, *comparison_);
  {
    Stopwatch watch(result_.checking);
    commit.take_out(plan);
    checker.run([&](const Plan::Directory& dir, DirectoryRow&& row) { commit.put(dir, row); });
    checker.check_links([&](const auto& each) { commit.each_stats(each); });
  }
  result_.missing = stager.missing();
  if (checker.mismatch_count() > 0 && !explained(checker, errors)) {
    recheck(parts, applier);
    return Round::Bad;
  }
  result_.missing_count = result_.missing.size();
  result_.files_placed += plan.place.size() + plan.place_last.size();
  result_.metadata_changed += plan.change.size() + plan.change_last.size();
  result_.removed += plan.remove.size() + plan.remove_dirs.size();

  Stopwatch watch(result_.committing);
  if (!plan.empty()) sync_filesystem(job_.place.root().fd());
  job_.ops.step(Probe::Step::Checked);
  if (!job_.settings.leave_index) commit.commit(to_, checker, result_.missing);
  job_.ops.step(Probe::Step::Committed);
  job_.state.forget_unused_xattr_sets();
  return Round::Good;
}

// Every mismatch has an error that says why: trying again would meet it again, and one bad item is
// no reason to hold back the rest.
bool SyncRun::explained(const Checker& checker, const ItemErrors& errors) {
  for (const auto& each : checker.mismatches()) {
    const std::string* why = errors.of(each.path);
    if (why)
      result_.missing.push_back({each.path, *why});
    else
      result_.mismatches.push_back({each.path, each.what});
  }
  return result_.mismatches.empty() && checker.mismatches().size() == checker.mismatch_count();
}

// The same check again, this time to tell a new LiveTree what is there.
void SyncRun::recheck(const Checker::Parts& parts, const Applier& applier) {
  auto next = comparison_->blank_live();
  Checker again(parts, applier.suspects());
  again.run([&next](const Plan::Directory&, DirectoryRow&& row) { next->now_is(row); });
  comparison_->go_on_with(std::move(next));
}

}  // namespace mirrorbus::tree
