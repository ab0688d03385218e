// What a round of a sync writes to the index: rows of what it went through and checked, and then
// the version. Nothing of it stays unless commit() returns. Internal to SyncRun.
#pragma once

#include "services/tree/checker.hpp"
#include "services/tree/mirror_job.hpp"

namespace mirrorbus::tree {

class SyncCommit {
 public:
  SyncCommit(MirrorJob& job, Comparison& comparison);

  // What the plan takes out.
  void take_out(const Plan& plan);
  // What the check found.
  void put(const Plan::Directory& dir, const DirectoryRow& row);
  // All rows as they are now.
  void each_stats(
      const std::function<void(ByteView path, const std::vector<EntryStat>&)>& visit) const;

  void commit(const TargetVersion& to, const Checker& checker,
              const std::vector<MissingItem>& missing);

 private:
  void remove(const Bytes& path);
  void remove_what_is_not_in(const DirectoryRow& row);
  Fidelity fidelity(const Checker& checker) const;

  MirrorJob& job_;
  Comparison& comparison_;
  Index::Batch batch_;
  Fidelity left_out_of_removed_;
};

}  // namespace mirrorbus::tree
