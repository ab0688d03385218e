// How far a mirror's tree may fall short of the signed one in owners, devices and attributes: as
// configured, as operators read it, and as it is told to others.
#pragma once

#include "proto/tree_sync.hpp"
#include "services/mirror/tree_settings.hpp"
#include "services/tree/metadata_policy.hpp"

#include <string>

namespace mirrorbus::mirror {

// `exclude`, `include` and sizes.
tree::PathFilter path_filter(const TreeSettings& settings);
// `[[tree]] owner`; what the process may do decides where it is empty.
tree::OwnerMode owner_mode(const std::string& text);
// "full", or e.g. "without owners of 3, devices of 1".
std::string describe(const tree::Fidelity& fidelity);
proto::Fidelity signed_fidelity(const tree::Fidelity& fidelity, const TreeSettings& settings);

}  // namespace mirrorbus::mirror
