// A program run by a test, with what it writes to stderr; killed when it goes out of scope.
#pragma once

#include "bus/base/fd.hpp"

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::test {

class Process {
 public:
  // Environment additions are "NAME=value".
  explicit Process(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment = {}) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) base::throw_errno("pipe");
    err_ = base::Fd(ends[0]);
    const base::Fd theirs(ends[1]);
    std::vector<char*> argv;
    for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) base::throw_errno("fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(theirs.get(), 1);
      ::dup2(theirs.get(), 2);
      for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // All it has written so far.
  const std::string& output() const { return output_; }

  // Reads on until it has written `text`; false after 10 s or at its end.
  bool wrote(const std::string& text) {
    const auto end = deadline();
    while (output_.find(text) == std::string::npos)
      if (!read_some(end)) return output_.find(text) != std::string::npos;
    return true;
  }
  // Its exit code, minus the signal that killed it, or nothing after 20 s.
  std::optional<int> wait() {
    const auto end = deadline() + std::chrono::seconds(10);
    while (read_some(end)) {
    }
    if (std::chrono::steady_clock::now() >= end) return std::nullopt;
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  using Time = std::chrono::steady_clock::time_point;
  static Time deadline() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }
  bool read_some(Time end) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    pollfd item{err_.get(), POLLIN, 0};
    if (left.count() <= 0 || ::poll(&item, 1, static_cast<int>(left.count())) <= 0) return false;
    char block[4096];
    const ssize_t got = ::read(err_.get(), block, sizeof block);
    if (got <= 0) return false;
    output_.append(block, static_cast<std::size_t>(got));
    return true;
  }

  pid_t pid_ = -1;
  base::Fd err_;
  std::string output_;
};

}  // namespace mirrorbus::test
