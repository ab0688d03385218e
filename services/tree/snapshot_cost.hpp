// What a further version of a tree takes on disk beside the one before, told from signed nodes and
// what the mirror makes of them.
#pragma once

#include "services/tree/metadata_policy.hpp"
#include "services/tree/plan.hpp"

#include <cstdint>

namespace mirrorbus::tree {

struct SnapshotCost {
  std::uint64_t content_bytes = 0;  // of files that cannot be shared with the version before
  std::uint64_t directories = 0;    // all of them, each made anew
  std::uint64_t bytes() const;      // both, with what a directory takes at least
};

// `from` and `to` are root node ids; no `from`: there is no version before.
SnapshotCost snapshot_cost(const TargetNodes& nodes, const std::optional<proto::Hash>& from,
                           const proto::Hash& to, std::uint64_t directories,
                           const MetadataPolicy::Settings& policy);

}  // namespace mirrorbus::tree
