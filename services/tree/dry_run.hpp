// What MirrorTree::bring_to() would do, without doing any of it: the signed nodes are fetched (and
// stay for the sync, which then need not ask again), nothing in the tree is looked at or changed.
// Blocking; one thread. While it lives, no sync of this tree may run.
#pragma once

#include "services/tree/itemize.hpp"
#include "services/tree/mirror_job.hpp"
#include "services/tree/mirror_tree.hpp"

namespace mirrorbus::tree {

class DryRun {
 public:
  // Towards `to`. SourceError if the nodes cannot be had, std::runtime_error if they are no tree.
  DryRun(const MirrorSettings& settings, Index& index, const TargetVersion& to,
         ContentSource& source, const WorkControl& control);

  std::uint64_t from() const { return job_.committed ? job_.committed->record.number : 0; }
  const proto::VersionRecord& to() const { return to_; }
  // Why a sync would not do it either.
  const std::optional<Refusal>& refusal() const { return refusal_; }
  const Itemizer& itemizer() const { return *itemizer_; }

 private:
  const MirrorSettings settings_;
  const proto::VersionRecord to_;
  MirrorJob job_;
  std::optional<Refusal> refusal_;
  std::optional<Itemizer> itemizer_;
};

// A version of an index, to be compared. std::runtime_error if it is not, or no longer, held.
ItemizedTree itemized_version(const Index& index, std::uint64_t number);

}  // namespace mirrorbus::tree
