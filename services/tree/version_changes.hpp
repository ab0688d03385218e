// What one version of a tree changed, page by page, from the nodes an index retains: for whoever
// asks beyond what the update event lists.
#pragma once

#include "proto/tree_update.hpp"
#include "services/tree/index.hpp"

#include <optional>
#include <vector>

namespace mirrorbus::tree {

struct ChangePage {
  std::vector<proto::Change> changes;
  bool more = false;
};
// From change number `skip` on, at most `limit`. Number 0 is the newest version. Nothing if the
// index has not this version, or neither the one before it nor an event that lists all its changes.
std::optional<ChangePage> version_changes(const Index& index, std::uint64_t number,
                                          std::uint64_t skip, std::size_t limit);

}  // namespace mirrorbus::tree
