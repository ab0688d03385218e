// `bus-mirror diff` and `sync --dry-run`: asks for page after page and prints each, as rsync -i
// would, or as JSON, one object a line.
#pragma once

#include "bus/peer/control_socket.hpp"

namespace mirrorbus::tools {

// `request`: what the first page is asked with. Throws std::runtime_error with the daemon's
// refusal. The exit code: 0, and of a dry run 1 if the version would be refused (said on stderr).
int print_diff(peer::ControlClient& client, const proto::Map& request, base::Duration timeout,
               bool json);

}  // namespace mirrorbus::tools
