// Runs part of a test in a child process as another user, since root passes every permission check.
#pragma once

#include "bus/base/fd.hpp"

#include <exception>
#include <functional>
#include <string>

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::test {

inline constexpr uid_t kPlainUser = 65534;

// What `part` threw, or "" if it returned. Run as `uid` where we are root, else as who we are.
// Catch's assertions do not travel between processes: throw instead.
inline std::string as_user(uid_t uid, const std::function<void()>& part) {
  int ends[2];
  if (::pipe(ends) != 0) base::throw_errno("pipe");
  base::Fd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) base::throw_errno("fork");
  if (child == 0) {
    std::string said;
    try {
      if (::geteuid() == 0 && uid != 0 &&
          (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 ||
           ::setresuid(uid, uid, uid) != 0))
        base::throw_errno("become user");
      part();
    } catch (const std::exception& error) {
      said = error.what();
      if (said.empty()) said = "exception";
    }
    const ssize_t n = ::write(write_end.get(), said.data(), said.size());
    ::_exit(n == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  write_end = base::Fd();
  std::string said;
  char buffer[4096];
  for (ssize_t n; (n = ::read(read_end.get(), buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(n));
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) said += " (the child ended abnormally)";
  return said;
}

}  // namespace mirrorbus::test
