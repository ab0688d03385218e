// One bring_to() of a MirrorTree from beginning to end. Internal.
#pragma once

#include "services/tree/applier.hpp"
#include "services/tree/checker.hpp"
#include "services/tree/fs_clock.hpp"
#include "services/tree/mirror_job.hpp"
#include "services/tree/pack_chain.hpp"
#include "services/tree/sync_judge.hpp"

namespace mirrorbus::tree {

class SyncRun {
 public:
  // What is handed in outlives the run. `versions`: as MirrorTree::bring_to() has them.
  SyncRun(const MirrorSettings& settings, Index& index, const std::vector<TargetVersion>& versions,
          ContentSource& source, const WorkControl& control);

  SyncResult bring_to(const std::optional<Refusal>& accepted, bool hash_everything);

 private:
  using State = SyncResult::State;
  // One way through plan, staging, apply, check and commit. Nothing is committed unless Good, and
  // the comparison knows what is there if Bad.
  enum class Round { Good, Bad, Refused };

  State run(const std::optional<Refusal>& accepted, bool hash_everything);
  State refused(Refusal&& why);
  bool nothing_to_do() const;
  std::optional<Refusal> know_target();
  std::optional<Refusal> find_place(const std::optional<Refusal>& accepted, bool repairs);
  std::optional<Refusal> afford_snapshot();
  void begin_snapshot();

  Round repair();
  Round round();
  void stage(Stager& stager, Applier& applier);
  Round check_and_commit(const Plan& plan, const Checker::Parts& parts, const Applier& applier,
                         Stager& stager, const ItemErrors& errors);
  bool explained(const Checker& checker, const ItemErrors& errors);
  void recheck(const Checker::Parts& parts, const Applier& applier);

  const std::vector<TargetVersion>& versions_;
  const TargetVersion& to_;
  ContentSource& source_;
  const WorkControl& control_;
  MirrorJob job_;
  SyncJudge judge_;
  Staging staging_;
  FsClock clock_;
  PackChain chain_;
  std::optional<Comparison> comparison_;
  SyncResult result_;
};

}  // namespace mirrorbus::tree
