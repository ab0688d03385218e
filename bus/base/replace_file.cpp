#include "bus/base/replace_file.hpp"

#include "bus/base/fd.hpp"

#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::base {

void replace_file(const std::string& file, std::string_view text) {
  const std::string beside = file + ".new";
  ::unlink(beside.c_str());
  const Fd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) throw_errno("making " + beside);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(fd.get(), text.data() + at, text.size() - at);
    if (n < 0 && errno != EINTR) throw_errno("writing " + beside);
    at += n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  if (std::rename(beside.c_str(), file.c_str()) != 0) throw_errno("renaming " + beside);
}

}  // namespace mirrorbus::base
