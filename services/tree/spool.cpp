#include "services/tree/spool.hpp"

#include <stdexcept>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Bytes;
using proto::ByteView;

Spool::Spool(int dir) : file_(::openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  if (!file_ && (errno == EOPNOTSUPP || errno == EISDIR)) {  // overlayfs of old, NFS, FUSE
    const std::string name = ".spool-" + std::to_string(::getpid());
    file_ = base::Fd(::openat(dir, name.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    if (file_) ::unlinkat(dir, name.c_str(), 0);
  }
  if (!file_) throw_errno("making a temporary file in the work folder");
}

Spool::Slot Spool::put(ByteView bytes) {
  const Slot slot{written_ + buffer_.size(), static_cast<std::uint32_t>(bytes.size())};
  buffer_ += bytes;
  if (buffer_.size() >= kBuffer) {
    write_all_at(file_.get(), buffer_, written_, "a temporary file");
    written_ += buffer_.size();
    buffer_.clear();
  }
  return slot;
}

Bytes Spool::get(Slot slot) const {
  if (slot.at >= written_) return buffer_.substr(slot.at - written_, slot.size);
  return read_exactly_at(file_.get(), slot.size, slot.at, "a temporary file");
}

void write_all_at(int fd, ByteView bytes, std::uint64_t at, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno("writing " + what);
    bytes.remove_prefix(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
}

Bytes read_exactly_at(int fd, std::size_t size, std::uint64_t at, const std::string& what) {
  Bytes bytes(size, '\0');
  for (std::size_t have = 0; have < size;) {
    const ssize_t n = ::pread(fd, bytes.data() + have, size - have, static_cast<off_t>(at + have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno("reading " + what);
    if (n == 0) throw std::runtime_error(what + " ends too early");
    have += static_cast<std::size_t>(n);
  }
  return bytes;
}

}  // namespace mirrorbus::tree
