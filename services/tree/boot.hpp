// Which boot of the machine this is: what was written in it and not synced is there as long as it
// lasts.
#pragma once

#include <string>

namespace mirrorbus::tree {

// The kernel's id of it; empty where there is none: then nothing counts as done in this boot.
std::string current_boot();

}  // namespace mirrorbus::tree
