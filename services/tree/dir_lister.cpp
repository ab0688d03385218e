#include "services/tree/dir_lister.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mirrorbus::tree {

bool DirLister::list(int dir) {
  constexpr std::size_t kPiece = 32 * 1024;
  names_.clear();
  std::size_t used = 0;
  // All of it first: the buffer moves while it grows. Names end in NUL, so they are terminated.
  for (;;) {
    if (buffer_.size() < used + kPiece) buffer_.resize(std::max(2 * buffer_.size(), used + kPiece));
    const long n = ::syscall(SYS_getdents64, dir, buffer_.data() + used, buffer_.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  for (std::size_t at = 0; at < used;) {
    const auto* entry = reinterpret_cast<const dirent64*>(buffer_.data() + at);
    at += entry->d_reclen;
    const proto::ByteView name(entry->d_name);
    if (name != "." && name != "..") names_.push_back(name);
  }
  std::ranges::sort(names_);
  return true;
}

}  // namespace mirrorbus::tree
