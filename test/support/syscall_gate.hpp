// A gate before every system call that changes or opens something: whoever stands at it lets a call
// through, makes it fail, or ends the process there. By seccomp's user notification, so it holds for
// all code in the process, libraries too, and for all its threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace mirrorbus::test {

struct Verdict {
  int error = 0;      // the call fails with this errno, undone
  bool kill = false;  // the process dies (SIGKILL) before the call
};

struct GateResult {
  bool killed = false;
  std::string said;          // what `work` returned; what it threw, after "threw: "
  std::uint64_t calls = 0;   // that came to the gate
};

enum class Calls {
  Changes,  // make, write, rename, link, remove, set metadata, sync
  Opens,    // files and directories, for reading too
  All,
};

// Runs `work` in a child. `judge` is asked for each call, numbered from 0. Throws std::system_error
// where the kernel or the surroundings do not allow such gates.
GateResult at_the_gate(Calls calls, const std::function<std::string()>& work,
                       const std::function<Verdict(std::uint64_t number)>& judge);

}  // namespace mirrorbus::test
