// The number under which a daemon asks where to pull (serve verb `have`): drawn once and kept with
// its state. So a mirror that starts again goes on with the place that its last run was given, and
// does not wait for it to become free; see pull_desk.hpp.
#pragma once

#include "bus/base/log.hpp"
#include "proto/bytes.hpp"

#include <string>

namespace mirrorbus::mirror {

// What `file` has, if it has proto::kRunSize bytes; else a new number, which is written there. If
// that fails it is logged: the number is as good for this run. Blocks. Throws std::system_error if
// none can be drawn.
proto::Bytes kept_run(const std::string& file, const base::Log& log);

}  // namespace mirrorbus::mirror
