// Writing a file that is new and grows: what is zero is not written, and becomes a hole where it
// fills blocks.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <string>

namespace mirrorbus::tree {

// Adds `bytes` at the end of a file of `size` bytes, or throws std::system_error naming `what`.
void append_sparse(int fd, proto::ByteView bytes, std::uint64_t size, const std::string& what);

}  // namespace mirrorbus::tree
