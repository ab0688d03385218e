// The packs that a mirror has brought in and keeps to hand them out: files in its work folder, each
// named by its hash once that is proven. What is still coming has another name (`.part` behind it).
#pragma once

#include "services/tree/index.hpp"

namespace mirrorbus::tree {

// Keeps the packs of the newest versions that the index retains, as far as they fit into `max_bytes`
// together (0: none are kept), and removes every other one of the folder `packs`.
void tidy_shelf(int packs, const Index& index, std::uint64_t max_bytes);

}  // namespace mirrorbus::tree
