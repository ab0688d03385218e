#include "services/tree/sparse.hpp"

#include "services/tree/spool.hpp"

#include "bus/base/fd.hpp"

#include <algorithm>
#include <cstring>

#include <unistd.h>

namespace mirrorbus::tree {

namespace {

// Of nearly every filesystem; where blocks are larger there are fewer holes.
constexpr std::uint64_t kBlock = 4096;

// Most data differ from zero in the first byte, so this costs nothing.
bool is_zero(proto::ByteView bytes) {
  return bytes.front() == '\0' &&
         (bytes.size() == 1 || std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace

void append_sparse(int fd, proto::ByteView bytes, std::uint64_t size, const std::string& what) {
  // Pieces end where blocks do. What lies beyond the end of a file reads as zero once it has grown,
  // so a piece of zeros need not be a whole block to be left out.
  std::size_t from = 0, at = 0;  // not yet written, not yet looked at
  bool zero = false;             // the last piece
  while (at < bytes.size()) {
    const auto to_border = static_cast<std::size_t>(kBlock - (size + at) % kBlock);
    const std::size_t n = std::min(to_border, bytes.size() - at);
    zero = is_zero(bytes.substr(at, n));
    if (zero) {
      if (at > from) write_all_at(fd, bytes.substr(from, at - from), size + from, what);
      from = at + n;
    }
    at += n;
  }
  if (at > from) write_all_at(fd, bytes.substr(from), size + from, what);
  if (zero && ::ftruncate(fd, static_cast<off_t>(size + bytes.size())) != 0)
    base::throw_errno("extend " + what);
}

}  // namespace mirrorbus::tree
