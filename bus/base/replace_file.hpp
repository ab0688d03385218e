// Small files that others read: written beside, then renamed, so that who reads sees the old one or
// the new one. Nothing is synced.
#pragma once

#include <string>
#include <string_view>

namespace mirrorbus::base {

// Readable for all, as the umask allows. Also in a directory that others may write to: what they
// have put in the way is not followed. Blocks. Throws std::system_error.
void replace_file(const std::string& file, std::string_view text);

}  // namespace mirrorbus::base
