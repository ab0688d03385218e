#include "services/tree/mirror_job.hpp"

#include "proto/tree_path.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include <unistd.h>

namespace mirrorbus::tree {

MirrorJob::MirrorJob(const MirrorSettings& settings_in, Index& index_in)
    : settings(settings_in),
      index(index_in),
      state(index),
      ops(settings.probe),
      work(settings.open_work()),
      cache(work.get(), "blobs"),
      target(index, cache),
      place(settings, index, state, ops, work.get()),
      committed(index.newest()) {}

std::string MirrorJob::policy_name() const {
  const auto& m = settings.metadata;
  const auto filter = m.filter.hash();
  return fmt::format("{} {} {} {} {} {}", static_cast<int>(m.owner), m.devices,
                     to_string(m.xattrs), m.safe_links, m.nosuid, filter ? to_hex(*filter) : "");
}

bool MirrorJob::policy_changed() const {
  const auto policy = state.policy();
  return policy && *policy != policy_name();
}

Comparison::Comparison(MirrorJob& job, const proto::VersionRecord& to, LiveTree::Trust trust,
                       LocalEdits& edits)
    : job_(job),
      to_(to),
      edits_(edits),
      last_(job.settings.last),
      sets_(job.work.get(), [&job](const Hash& id) { return job.target.find(id); }),
      policy_(job.settings.metadata, job.target.owners(), &sets_) {
  // What was left by applies of several versions looks like anybody's work.
  const bool others = job.state.applying_others(to.tree_hash);
  live_ = std::make_unique<LiveTree>(job.index, job.place.root(), job.ops, policy_, trust,
                                     job.work.get(), others ? nullptr : &edits);
  live_->ignore(job.settings.ignored);
  if (job.place.looks_changed()) live_->look_into({});
  for (const MissingItem& item : job.state.missing())
    live_->look_into(proto::parent_path(item.path));
}

std::unique_ptr<LiveTree> Comparison::blank_live() {
  auto live = std::make_unique<LiveTree>(job_.index, job_.place.root(), job_.ops, policy_,
                                         LiveTree::Trust::Nothing, job_.work.get(), &edits_);
  live->ignore(job_.settings.ignored);
  return live;
}

bool Comparison::everything() const {
  if (job_.policy_changed()) return true;
  return job_.settings.metadata.owner == OwnerMode::Name && job_.committed &&
         job_.committed->root.owners != job_.target.root().owners;
}

proto::LinksTable Comparison::old_links() const {
  if (!job_.committed) return {};
  const auto bytes = job_.index.blob(job_.committed->root.links);
  auto links = bytes ? proto::decode_links(*bytes) : proto::refuse(proto::Reject::BadHash);
  if (!links) throw std::runtime_error("the index has lost the links table");
  return std::move(*links);
}

proto::Decoded<Plan> Comparison::plan(std::function<bool(const Hash&)> offered) {
  const proto::LinksTable old_links = this->old_links();
  PlanInput input{*live_,
                  job_.place.entry(),
                  job_.place.known_stat(),
                  job_.target,
                  job_.target.root(),
                  to_.counts.entries,
                  old_links,
                  job_.target.links(),
                  policy_,
                  {},
                  std::move(offered),
                  everything(),
                  ::geteuid() == 0,
                  job_.settings.snapshot};
  if (policy_.xattrs() && input.old_root)
    input.old_root->xattrs = live_->name_root_xattrs(job_.target.root().entry);
  if (!last_.empty()) input.last = [this](ByteView path) { return last_.match(path); };
  auto plan = make_plan(input);
  if (plan) need_xattrs(*plan);
  return plan;
}

// What is going to be set or checked.
void Comparison::need_xattrs(const Plan& plan) {
  if (!policy_.xattrs()) return;
  for (const Plan::Directory& dir : plan.dirs)
    if (dir.stays()) policy_.need(dir.entry);
  std::optional<std::pair<std::uint32_t, proto::Node>> node;
  for (const auto& [dir, at] : plan.touched) {
    if (!node || node->first != dir) node.emplace(dir, job_.target.node(plan.dirs[dir].id));
    policy_.need(node->second.entries[at]);
  }
}

}  // namespace mirrorbus::tree
