// What stored versions of a tree changed, from the nodes an index retains; of one version page by
// page, for whoever asks beyond what the update event lists.
#pragma once

#include "proto/tree_update.hpp"
#include "services/tree/changes.hpp"
#include "services/tree/index.hpp"

#include <optional>
#include <vector>

namespace mirrorbus::tree {

// A version whose nodes the index retains, to be compared. std::runtime_error, when it is walked, if
// one of them has gone. `index` outlives it.
TreeSide stored_side(const Index& index, const StoredVersion& version);

struct ChangePage {
  std::vector<proto::Change> changes;
  bool more = false;
};
// From change number `skip` on, at most `limit`. Number 0 is the newest version. Nothing if the
// index has not this version, or neither the one before it nor an event that lists all its changes.
std::optional<ChangePage> version_changes(const Index& index, std::uint64_t number,
                                          std::uint64_t skip, std::size_t limit);

}  // namespace mirrorbus::tree
