// A mirror's process, killed in the middle of a sync.
#pragma once

#include "test/services/tree/mirror_story.hpp"

#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::test {

// Kills the process it is called in: before change number `left`, or at a step.
struct KillingProbe : tree::Probe {
  explicit KillingProbe(long at = -1) : left(at) {}
  void mutating(const char*, const proto::Bytes&) override {
    if (left-- == 0) ::kill(::getpid(), SIGKILL);
  }
  void step(Step now) override {
    if (kill_at == now) ::kill(::getpid(), SIGKILL);
  }
  long left;
  std::optional<Step> kill_at;
};

// True if the child was killed, false if it came to its end; throws what went wrong in it.
inline bool killed(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child < 0) base::throw_errno("fork");
  if (child == 0) {
    int status = 0;
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in the child: %s\n", error.what());
      status = 1;
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("the child failed");
  return false;
}

// True if it was.
inline bool sync_killed(Story& story, KillingProbe& probe) {
  story.m.settings.probe = &probe;
  const bool was = killed([&] {
    const auto result = story.m.sync();
    if (result.state != tree::SyncResult::State::Committed)
      throw std::runtime_error(describe(result));
  });
  story.m.settings.probe = nullptr;
  return was;
}

}  // namespace mirrorbus::test
