#pragma once

#include <string_view>

namespace mirrorbus::base {

// Of this build, e.g. "0.1.0".
std::string_view version() noexcept;

}  // namespace mirrorbus::base
