// One bring_to() of a MirrorTree from beginning to end. Internal.
#pragma once

#include "services/tree/applier.hpp"
#include "services/tree/checker.hpp"
#include "services/tree/fs_clock.hpp"
#include "services/tree/mirror_tree.hpp"
#include "services/tree/name_patterns.hpp"
#include "services/tree/pack_chain.hpp"
#include "services/tree/target_tree.hpp"

namespace mirrorbus::tree {

class SyncRun {
 public:
  SyncRun(const MirrorSettings& settings, Index& index, const WorkControl& control);

  SyncResult bring_to(const std::vector<TargetVersion>& versions, ContentSource& source,
                      const std::optional<Refusal>& accepted, bool hash_everything);
  VerifyResult verify();

  static std::vector<MissingItem> missing(const Index& index);

 private:
  // Where the tree is, and what is known of it.
  struct Place {
    RootDir root;
    LiveTree::Trust trust;
    std::optional<proto::Entry> entry;  // the root directory as it is
    EntryStat stat;
    bool looks_changed = true;
    bool first = false;  // in the work folder, to be renamed when it is done
  };
  // One way through plan, staging, apply, check and commit. False: the check failed, nothing is
  // committed, and live_ knows what is there.
  bool round(ContentSource& source, bool repair);

  std::optional<Refusal> judge_version(const TargetVersion& target) const;
  std::optional<Refusal> judge_deletions() const;
  std::optional<Refusal> judge_space(const Plan& plan) const;
  std::optional<Refusal> find_place(bool adopt);
  void place_at(const std::string& path, LiveTree::Trust trust);
  void first_place();
  Refusal refusal(proto::Reject why, std::string text) const;

  void start_live(LiveTree::Trust trust);
  proto::Decoded<Plan> make_plan();
  void mark_applying();
  void stage(Stager& stager, ContentSource& source);
  void recheck(const Checker::Parts& parts, const Applier& applier);
  bool explained(const Checker& checker, const ItemErrors& errors);

  void commit(const Checker& checker);
  void put_row(const Plan::Directory& dir, const DirectoryRow& row);
  void remove_rows(const proto::Bytes& path);
  void move_into_place();
  void save_missing();
  bool policy_changed() const;
  bool compare_all() const;
  std::string policy_name() const;

  const MirrorSettings& settings_;
  Index& index_;
  const WorkControl& control_;
  EntryOps ops_;
  base::Fd work_;
  BlobCache cache_;
  Staging staging_;
  FsClock clock_;
  TargetTree target_;
  PackChain chain_;
  NamePatterns last_;
  std::optional<Place> place_;
  std::optional<StoredVersion> committed_;
  const TargetVersion* to_ = nullptr;
  SyncResult result_;
  std::optional<MetadataPolicy> policy_;
  std::unique_ptr<LiveTree> live_;
  Fidelity left_out_of_removed_;
};

}  // namespace mirrorbus::tree
