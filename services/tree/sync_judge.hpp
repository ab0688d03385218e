// Whether a mirror may go to a version at all. What it refuses, an operator may accept, as far as
// SyncRun takes that for an answer.
#pragma once

#include "services/tree/mirror_tree.hpp"
#include "services/tree/target_tree.hpp"

namespace mirrorbus::tree {

class SyncJudge {
 public:
  // From `committed` to `to`; both outlive it.
  SyncJudge(const MirrorSettings& settings, const std::optional<StoredVersion>& committed,
            const proto::VersionRecord& to)
      : settings_(settings), committed_(committed), to_(to) {}

  // `pinned`: the tree that this mirror follows, if that is known.
  std::optional<Refusal> version(const std::optional<Bytes>& pinned) const;
  std::optional<Refusal> deletions(const TargetTree& target) const;
  // `work`: the work folder, on the tree's filesystem.
  std::optional<Refusal> space(std::uint64_t needed_bytes, int work) const;
  Refusal refusal(proto::Reject why, std::string text) const;

 private:
  const MirrorSettings& settings_;
  const std::optional<StoredVersion>& committed_;
  const proto::VersionRecord& to_;
};

}  // namespace mirrorbus::tree
