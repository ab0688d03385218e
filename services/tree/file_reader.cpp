#include "services/tree/file_reader.hpp"

#include "proto/sha256.hpp"
#include "services/tree/spool.hpp"

#include <algorithm>
#include <memory>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

std::optional<OpenFile> open_file(int dir, const proto::Bytes& name) {
  OpenFile file;
  if (::fstatat(dir, name.c_str(), &file.st, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (!S_ISREG(file.st.st_mode)) {
    errno = EINVAL;
    return {};
  }
  // NONBLOCK: should it have become a FIFO since.
  constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  file.fd = base::Fd(::openat(dir, name.c_str(), kFlags | O_NOATIME));
  if (!file.fd && errno == EPERM) file.fd = base::Fd(::openat(dir, name.c_str(), kFlags));
  if (!file.fd || ::fstat(file.fd.get(), &file.st) != 0) return {};
  if (!S_ISREG(file.st.st_mode)) {
    errno = EINVAL;
    return {};
  }
  return file;
}

std::optional<ReadFile> read_file(int dir, const proto::Bytes& name,
                                  const std::function<void(proto::ByteView)>& each) {
  auto file = open_file(dir, name);
  if (!file) return {};
  constexpr std::size_t kChunk = 256 * 1024;
  thread_local const std::unique_ptr<char[]> buffer(new char[kChunk]);
  proto::Sha256 hash;
  for (;;) {
    const ssize_t n = ::read(file->fd.get(), buffer.get(), kChunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return {};
    if (n == 0) break;
    const proto::ByteView bytes(buffer.get(), static_cast<std::size_t>(n));
    hash.update(bytes);
    if (each) each(bytes);
  }
  struct stat after;
  if (::fstat(file->fd.get(), &after) != 0) return {};
  const auto same = [](const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  };
  if (after.st_size != file->st.st_size || !same(after.st_mtim, file->st.st_mtim) ||
      !same(after.st_ctim, file->st.st_ctim)) {
    errno = EBUSY;
    return {};
  }
  return ReadFile{hash.finish(), after};
}

proto::Hash hash_of_file(int fd, std::uint64_t size, const std::string& what) {
  proto::Sha256 hash;
  constexpr std::uint64_t kChunk = 1024 * 1024;
  for (std::uint64_t at = 0; at < size; at += kChunk)
    hash.update(read_exactly_at(fd, std::min(kChunk, size - at), at, what));
  return hash.finish();
}

}  // namespace mirrorbus::tree
