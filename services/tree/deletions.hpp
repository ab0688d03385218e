// What a step from one tree to another would lose: the judgement behind max_delete.
#pragma once

#include "proto/node.hpp"
#include "services/tree/path_filter.hpp"
#include "services/tree/plan.hpp"

#include <cstdint>
#include <vector>

namespace mirrorbus::tree {

// More than either is too much: a count, and a share of the files there were. What a mirror's
// filter leaves out is no loss of its, and counts in neither.
struct DeleteLimit {
  std::uint64_t files = 1000;
  double share = 0.10;

  std::uint64_t of(std::uint64_t files_there_were) const;
};

struct Deletions {
  // Regular files whose path is gone and whose content is nowhere in the target. Not more exact
  // than needed: where there are no more than the limit, contents are not searched for.
  std::uint64_t files = 0;
  std::uint64_t of = 0;  // files that there were; as far as was needed
  std::uint64_t limit = 0;
  std::vector<proto::Bytes> paths;  // the first ones, if there are too many
  bool too_many() const { return files > limit; }
};

inline constexpr std::size_t kNamedDeletions = 1000;

// `from` and `to` are root node ids, both trees' nodes in `nodes`. `files`: of all of `from`.
Deletions count_deletions(const TargetNodes& nodes, const proto::Hash& from, const proto::Hash& to,
                          const DeleteLimit& limit, std::uint64_t files, const PathFilter& filter);

}  // namespace mirrorbus::tree
