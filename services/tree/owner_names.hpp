// Names of users and groups on this machine, for an owners table.
#pragma once

#include "proto/tree_version.hpp"

#include <cstdint>
#include <vector>

namespace mirrorbus::tree {

// Those of the ids that have a name. Asks the system's user database, which may take a while.
proto::OwnersTable owner_names(const std::vector<std::uint32_t>& users,
                               const std::vector<std::uint32_t>& groups);

}  // namespace mirrorbus::tree
