#include "services/tree/in_flight.hpp"

#include "bus/base/fd.hpp"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

namespace mirrorbus::tree {

bool looks_temporary(proto::ByteView name) {
  // A dot, something, a dot, six characters of mkstemp's alphabet.
  if (name.size() < 9 || name.front() != '.' || name[name.size() - 7] != '.') return false;
  return std::ranges::all_of(name.substr(name.size() - 6), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

bool in_flight(int dir, const char* name, const struct stat& st, const timespec& now,
               std::int64_t settle_ns) {
  const auto age = [&now](const timespec& t) {
    return (static_cast<std::int64_t>(now.tv_sec) - t.tv_sec) * 1'000'000'000 + now.tv_nsec -
           t.tv_nsec;
  };
  if (std::min(age(st.st_ctim), age(st.st_mtim)) < settle_ns) return true;
  // A read lease is refused while anybody can write. It needs the file to be ours; where it is not,
  // age has to do.
  const base::Fd fd(::openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return false;
  if (::fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) return errno == EAGAIN;
  ::fcntl(fd.get(), F_SETLEASE, F_UNLCK);
  return false;
}

}  // namespace mirrorbus::tree
