// What DNS said last, in a file: a daemon that starts while DNS is away goes on with it. Worth as much as
// DNS itself: whoever is found there must be believed by signatures all the same. Blocks: worker threads,
// or before the loop runs.
#pragma once

#include "bus/net/discovery_core.hpp"

#include <string>
#include <vector>

namespace mirrorbus::net {

// Nothing if there is no such file, or nothing in it that can be read.
std::vector<DiscoveryCore::Held> read_discovery_memory(const std::string& file);
// Whole or not at all. Throws std::system_error.
void write_discovery_memory(const std::string& file,
                            const std::vector<DiscoveryCore::Held>& held);

}  // namespace mirrorbus::net
