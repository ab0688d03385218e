// The packs that a mirror has brought in and keeps to hand them out: files in its work folder, each
// named by its hash once that is proven. What is still coming has another name (`.part` behind it).
#pragma once

#include "services/tree/index.hpp"

#include <string>

namespace mirrorbus::tree {

struct Shelf {
  std::uint64_t max_bytes = 0;  // of packs; 0: none are kept
  std::uint64_t versions = 100;  // that the index retains, whether their packs are kept or not
};

// Forgets versions beyond what is to be retained; keeps the packs of the newest that are, as far as
// they fit; removes every other file of the folder `packs`. Not while one of them is coming.
void tidy_shelf(int packs, Index& index, const Shelf& shelf);

}  // namespace mirrorbus::tree
