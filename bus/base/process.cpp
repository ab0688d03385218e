#include "bus/base/process.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace mirrorbus::base {
namespace {

constexpr Duration kGrace = std::chrono::seconds(2);
constexpr std::size_t kMaxLine = 1000;

class Actions {
 public:
  Actions() { ::posix_spawn_file_actions_init(&actions_); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&actions_); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class Attributes {
 public:
  Attributes() {
    ::posix_spawnattr_init(&attributes_);
    // Signals as a program expects them, whatever a daemon has blocked or ignores.
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~Attributes() { ::posix_spawnattr_destroy(&attributes_); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  posix_spawnattr_t* get() { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// Each name once: programs differ in which of two they take.
std::vector<std::string> environment_with(std::vector<std::string> ours) {
  const std::size_t count = ours.size();
  for (char** each = environ; *each; ++each) {
    const std::string_view text(*each);
    const std::string_view name = text.substr(0, text.find('=') + 1);
    if (std::none_of(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(count),
                     [&](const std::string& one) { return one.starts_with(name); }))
      ours.emplace_back(text);
  }
  return ours;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const std::string& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

}  // namespace

std::string Process::End::text() const {
  if (timed_out) return "not done in time";
  if (signal != 0) return fmt::format("killed by signal {}", signal);
  return fmt::format("exit code {}", exit_code);
}

Process::Process(Loop& loop, const ProcessOptions& options, OnLine on_line, OnEnd on_end)
    : loop_(loop), on_line_(std::move(on_line)), on_end_(std::move(on_end)), timeout_(loop) {
  if (options.command.empty()) throw_errno("running an empty command", EINVAL);
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) throw_errno("making a pipe");
  output_ = Fd(pipe[0]);
  const Fd write_end(pipe[1]);
  if (::fcntl(output_.get(), F_SETFL, O_NONBLOCK) != 0) throw_errno("setting up a pipe");

  Actions actions;
  const std::string input = options.input.empty() ? "/dev/null" : options.input;
  ::posix_spawn_file_actions_addopen(actions.get(), 0, input.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), write_end.get(), 1);
  ::posix_spawn_file_actions_adddup2(actions.get(), write_end.get(), 2);
  // What libraries have open without O_CLOEXEC is not for others.
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), 3);
  if (!options.directory.empty())
    ::posix_spawn_file_actions_addchdir_np(actions.get(), options.directory.c_str());
  Attributes attributes;
  const std::vector<std::string> environment = environment_with(options.environment);
  const int failed =
      ::posix_spawnp(&pid_, options.command.front().c_str(), actions.get(), attributes.get(),
                     pointers(options.command).data(), pointers(environment).data());
  if (failed != 0) {
    pid_ = -1;
    throw_errno("running " + options.command.front(), failed);
  }
  pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) {
    const int error = errno;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
    throw_errno("watching " + options.command.front(), error);
  }
  ending_ = std::make_unique<FdWatch>(loop_, pidfd_.get(), [this](bool, bool) { ended(); });
  ending_->want(true, false);
  reading_ = std::make_unique<FdWatch>(loop_, output_.get(), [this](bool, bool) { readable(); });
  reading_->want(true, false);
  if (options.timeout > Duration::zero())
    timeout_.start(options.timeout, [this] { terminate(); });
}

Process::~Process() {
  if (pid_ <= 0) return;
  ending_.reset();
  reading_.reset();
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Process::terminate() {
  timed_out_ = true;
  ::kill(-pid_, SIGTERM);
  timeout_.start(kGrace, [this] { ::kill(-pid_, SIGKILL); });
}

void Process::readable() {
  char block[16 * 1024];
  const ssize_t n = ::read(output_.get(), block, sizeof block);
  if (n > 0) {
    received_.append(block, static_cast<std::size_t>(n));
    return lines(false);
  }
  if (n == 0 || (errno != EAGAIN && errno != EINTR)) reading_->want(false, false);
}

// Ended is when the leader has: what it left running in its group is killed before it is reaped, as
// long as the group's number is still its own.
void Process::ended() {
  ending_->want(false, false);
  timeout_.cancel();
  ::kill(-pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  // What a pipe holds, no more: something that has left the group may write for ever.
  char block[64 * 1024];
  if (const ssize_t n = ::read(output_.get(), block, sizeof block); n > 0)
    received_.append(block, static_cast<std::size_t>(n));
  lines(true);
  End end;
  end.timed_out = timed_out_;
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  // Its owner may destroy us.
  OnEnd on_end = std::move(on_end_);
  on_end(end);
}

void Process::lines(bool last) {
  std::size_t from = 0;
  for (std::size_t end; from < received_.size(); from = end + 1) {
    end = received_.find('\n', from);
    if (end == std::string::npos) {
      if (!last && received_.size() - from < kMaxLine) break;
      end = received_.size();
    }
    const auto line = std::string_view(received_).substr(from, std::min(end - from, kMaxLine));
    if (!line.empty()) on_line_(line);
  }
  received_.erase(0, std::min(from, received_.size()));
}

}  // namespace mirrorbus::base
