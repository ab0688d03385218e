// The standard headers and fmt, compiled once for each library above proto/.
#ifndef MIRRORBUS_PRECOMPILED_COMMON_HPP
#define MIRRORBUS_PRECOMPILED_COMMON_HPP

#include "proto/precompiled/std.hpp"

#include <fmt/format.h>

#endif
