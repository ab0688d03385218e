// Another program, run without a shell: an argument list, what it reads, what became of it. Its
// output comes line by line. It is the leader of a process group of its own, and all of that ends
// with it: at its exit, at the timeout, and when this object goes.
//
// Loop thread only; nothing blocks. A pidfd tells of the end, so nobody's waitpid is disturbed.
#pragma once

#include "bus/base/fd.hpp"
#include "bus/base/loop.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::base {

struct ProcessOptions {
  std::vector<std::string> command;      // the program, found through PATH, and its arguments
  std::vector<std::string> environment;  // "NAME=value", beside our own
  std::string directory;                 // empty: ours
  std::string input;                     // a file to read from; empty: /dev/null
  Duration timeout = Duration::zero();   // then SIGTERM, and SIGKILL two seconds later; zero: never
};

class Process {
 public:
  struct End {
    int exit_code = -1;  // if it exited by itself
    int signal = 0;      // else what ended it
    bool timed_out = false;
    bool good() const { return exit_code == 0 && !timed_out; }
    std::string text() const;  // "exit code 3", "killed by signal 15", "not done in time"
  };
  using OnLine = std::move_only_function<void(std::string_view line)>;
  using OnEnd = std::move_only_function<void(const End&)>;

  // Started at once; std::system_error if that is not possible (no such program). `on_line`: of its
  // stdout and stderr, at most 1000 bytes each. `on_end`: once, afterwards.
  Process(Loop& loop, const ProcessOptions& options, OnLine on_line, OnEnd on_end);
  // Killed if it still runs, without on_end.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

 private:
  void readable();
  void ended();
  void lines(bool last);
  void terminate();

  Loop& loop_;
  OnLine on_line_;
  OnEnd on_end_;
  int pid_ = -1;
  Fd pidfd_, output_;
  std::string received_;
  bool timed_out_ = false;
  Timer timeout_;
  std::unique_ptr<FdWatch> ending_, reading_;
};

}  // namespace mirrorbus::base
