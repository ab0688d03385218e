// Reading a live file safely: opened without following anything and only if it is a regular file,
// hashed while read, and of no account if it changed meanwhile.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <sys/stat.h>

namespace mirrorbus::tree {

struct OpenFile {
  base::Fd fd;
  struct stat st;
};
// Nothing, with errno set, if it cannot be opened or is not a regular file (EINVAL). A FIFO or a
// device put there is never opened.
std::optional<OpenFile> open_file(int dir, const proto::Bytes& name);

// What it held, if it did not change while it was read (size, mtime, ctime); nothing otherwise, or
// if reading failed (errno). `each` sees the bytes as they come and may be empty.
struct ReadFile {
  proto::Hash content;
  struct stat st;
};
std::optional<ReadFile> read_file(int dir, const proto::Bytes& name,
                                  const std::function<void(proto::ByteView)>& each = {});

// Of exactly `size` bytes, or an exception naming `what`.
proto::Hash hash_of_file(int fd, std::uint64_t size, const std::string& what);

}  // namespace mirrorbus::tree
