#include "bus/base/version.hpp"

namespace mirrorbus::base {

std::string_view version() noexcept { return MIRRORBUS_VERSION; }

}  // namespace mirrorbus::base
