// What a job on a mirrored tree works with, be it a sync or a verify: the index, the work folder,
// the place and the target; and, once these are known, the tree on disk held against the target.
#pragma once

#include "services/tree/mirror_place.hpp"
#include "services/tree/name_patterns.hpp"
#include "services/tree/target_tree.hpp"

namespace mirrorbus::tree {

struct MirrorJob {
  MirrorJob(const MirrorSettings& settings, Index& index);

  std::string policy_name() const;
  // The tree was brought here under another metadata policy.
  bool policy_changed() const;

  const MirrorSettings& settings;
  Index& index;
  MirrorState state;
  EntryOps ops;
  base::Fd work;
  BlobCache cache;
  TargetTree target;
  MirrorPlace place;
  const std::optional<StoredVersion> committed;
};

// Of a job whose place is found and whose target is whole.
class Comparison {
 public:
  // `to`: the target's version. `edits`: where to tell of local edits.
  Comparison(MirrorJob& job, const proto::VersionRecord& to, LiveTree::Trust trust,
             LocalEdits& edits);

  const MetadataPolicy& policy() const { return policy_; }
  LiveTree& live() { return *live_; }
  // Every directory has to be compared: node ids do not tell whether an entry has what it shall.
  bool everything() const;
  // `offered`: as in PlanInput.
  proto::Decoded<Plan> plan(std::function<bool(const Hash&)> offered);

  // A tree of which nothing is known, and to go on with it when it has been told what is there.
  std::unique_ptr<LiveTree> blank_live();
  void go_on_with(std::unique_ptr<LiveTree> live) { live_ = std::move(live); }

 private:
  proto::LinksTable old_links() const;
  void need_xattrs(const Plan& plan);

  MirrorJob& job_;
  const proto::VersionRecord& to_;
  LocalEdits& edits_;
  NamePatterns last_;
  XattrSets sets_;
  MetadataPolicy policy_;
  std::unique_ptr<LiveTree> live_;
};

}  // namespace mirrorbus::tree
