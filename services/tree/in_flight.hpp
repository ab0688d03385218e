// Names under which other programs write files that are not there yet.
#pragma once

#include "proto/bytes.hpp"

#include <ctime>

struct stat;

namespace mirrorbus::tree {

// rsync's folder for --delay-updates.
inline constexpr proto::ByteView kDelayedUpdates = ".~tmp~";

// ".name.XXXXXX", as rsync writes before it renames.
bool looks_temporary(proto::ByteView name);

// A file of such a name is in flight while it is younger than `settle_ns` (by `now`, the time of its
// filesystem) or somebody has it open for writing.
bool in_flight(int dir, const char* name, const struct stat& st, const timespec& now,
               std::int64_t settle_ns);

}  // namespace mirrorbus::tree
