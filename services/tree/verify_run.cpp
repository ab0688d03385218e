#include "services/tree/verify_run.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/snapshot_check.hpp"

#include <stdexcept>

namespace mirrorbus::tree {

namespace {
const std::string kOtherMetadata = "has another owner, mode, time or extended attributes";
}  // namespace

VerifyRun::VerifyRun(const MirrorSettings& settings, Index& index, const WorkControl& control)
    : control_(control), job_(settings, index) {}

VerifyResult VerifyRun::verify() {
  if (!job_.committed)
    throw std::runtime_error("nothing is committed yet: there is nothing to verify");
  const proto::TreeCounts& counts = job_.committed->record.counts;
  std::optional<Snapshots> snapshots;
  std::optional<SnapshotCheck> older;
  std::uint64_t total = counts.bytes;
  if (job_.settings.snapshot) {
    snapshots.emplace(job_.place.snapshots());
    older.emplace(job_.settings, job_.index, *snapshots);
    total += older->measure();
  }
  const WorkControl told{control_.progress, nullptr};
  result_.kept = KeptCheck(job_.index, job_.settings.work, told,
                           {Phase::Verifying, 0, total, 0, counts.files})
                     .mirror();
  total += result_.kept.bytes;
  result_.fidelity = job_.state.fidelity();
  // What is signed is not known here then.
  if (result_.kept.has(Rot::Kind::Index)) return std::move(result_);
  set_target();
  if (const auto unsafe = job_.place.find(false, false)) throw std::runtime_error(*unsafe);
  LocalEdits edits;
  Comparison comparison(job_, job_.committed->record, LiveTree::Trust::Hashes, edits);
  std::uint64_t kept = result_.kept.bytes;
  comparison.live().on_read([&](std::uint64_t files, std::uint64_t bytes) {
    control_.report({Phase::Verifying, kept + bytes, total, files, counts.files});
  });
  const auto plan = comparison.plan({});
  if (!plan)
    throw std::runtime_error("the committed tree contradicts itself: " +
                             std::string(to_string(plan.error())));
  compare(*plan, comparison.live());
  result_.files = comparison.live().files_read();
  result_.bytes = comparison.live().bytes_read();
  if (older)
    older->run(result_.older, [&](std::uint64_t bytes) {
      kept += bytes;
      control_.report(
          {Phase::Verifying, kept + result_.bytes, total, result_.files, counts.files});
    });
  return std::move(result_);
}

void VerifyRun::set_target() {
  const proto::TreeRoot& root = job_.committed->root;
  const auto links = job_.index.blob(root.links);
  const auto owners = job_.index.blob(root.owners);
  if (!links || !owners || !job_.target.set(root, *links, *owners))
    throw std::runtime_error("the index has lost the links or owners table");
}

void VerifyRun::differs(Bytes path, std::string what) {
  ++result_.count;
  if (result_.differences.size() < LocalEdits::kNamed)
    result_.differences.push_back({std::move(path), std::move(what)});
}

void VerifyRun::all(const Plan& plan, LiveTree& live, const std::vector<Plan::Op>& ops,
                    const std::string& what) {
  for (const Plan::Op& op : ops) {
    const Plan::Directory& dir = plan.dirs[op.dir];
    const auto old = op.was != kNone || !dir.stays() ? live.again(dir.path) : std::nullopt;
    const Bytes name = op.at != kNone ? job_.target.node(dir.id).entries[op.at].name
                                      : old->node.entries[op.was].name;
    differs(proto::join_path(dir.path, name), what);
  }
}

void VerifyRun::compare(const Plan& plan, LiveTree& live) {
  for (const std::uint32_t dir : plan.make) differs(plan.dirs[dir].path, "is missing");
  for (const auto* ops : {&plan.place, &plan.place_last})
    all(plan, live, *ops, "is missing or has another content");
  for (const auto* ops : {&plan.link, &plan.link_last})
    all(plan, live, *ops, "is not the same file as the other names of its group");
  for (const auto* ops : {&plan.change, &plan.change_last})
    all(plan, live, *ops, kOtherMetadata);
  all(plan, live, plan.remove, "should not be there");
  for (const std::uint32_t dir : plan.remove_dirs)
    differs(plan.dirs[dir].path, "should not be there");
  for (const std::uint32_t dir : plan.finish)
    if (plan.dirs[dir].exists && plan.dirs[dir].differs)
      differs(plan.dirs[dir].path, kOtherMetadata);
}

}  // namespace mirrorbus::tree
