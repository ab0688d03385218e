#include "tools/event_program.hpp"

#include "bus/base/fd.hpp"
#include "tools/time_text.hpp"

#include <cstring>

#include <fmt/core.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

namespace mirrorbus::tools {
namespace {

// A file rather than a pipe: a program that does not read what it is given is no failure, and one
// that writes before it has read all does not wait for us.
base::Fd input_of(const ShownEvent& event) {
  base::Fd file(memfd_create("event", MFD_CLOEXEC));
  const std::string text = event.json() + "\n";
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::lseek(file.get(), 0, SEEK_SET) != 0)
    base::throw_errno("handing over an event");
  return file;
}

std::vector<std::string> environment_of(const ShownEvent& event) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable; ++variable)
    if (!std::string_view(*variable).starts_with("MIRRORBUS_")) variables.emplace_back(*variable);
  variables.push_back("MIRRORBUS_TOPIC=" + event.topic);
  variables.push_back("MIRRORBUS_PUBLISHER=" + event.publisher);
  variables.push_back("MIRRORBUS_SIGNER=" + event.signer);
  variables.push_back(fmt::format("MIRRORBUS_EPOCH={}", event.epoch));
  variables.push_back(fmt::format("MIRRORBUS_SEQ={}", event.seq));
  variables.push_back("MIRRORBUS_TIME=" + utc(event.time_ns));
  variables.push_back("MIRRORBUS_ID=" + event.id);
  return variables;
}

// `texts` outlive the pointers.
std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

}  // namespace

std::string EventProgram::run(const ShownEvent& event) const {
  const base::Fd input = input_of(event);
  const std::vector<std::string> environment = environment_of(event);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, command_.front().c_str(), &actions, nullptr,
                                 pointers(command_).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    return fmt::format("{} cannot be run: {}", command_.front(), std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) base::throw_errno("waiting for " + command_.front());
  if (WIFSIGNALED(status))
    return fmt::format("{} was ended by signal {}", command_.front(), WTERMSIG(status));
  if (WEXITSTATUS(status) == 0) return {};
  return fmt::format("{} ended with {}", command_.front(), WEXITSTATUS(status));
}

}  // namespace mirrorbus::tools
