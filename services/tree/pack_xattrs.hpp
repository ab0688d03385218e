// The sets of extended attributes that a delta pack brings along.
#pragma once

#include "proto/tree_version.hpp"
#include "services/tree/index.hpp"

#include <vector>

namespace mirrorbus::tree {

// Encoded sets that entries of the pending layer name and the committed tree's at their place do
// not; the first ones, as far as a pack has room. `root`: the target's own entry.
std::vector<Bytes> new_xattr_sets(const Index& index, const proto::Entry& root);

}  // namespace mirrorbus::tree
