// How far long work of a tree is, shown on a terminal while its end is waited for.
#pragma once

#include "bus/peer/control_socket.hpp"

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace mirrorbus::tools {

// Of one look after the other at a tree's status. Less than 80 columns.
class ProgressLine {
 public:
  // `tree`: its object in the answer to `status`; `at`: when that came.
  std::string show(const proto::Value& tree, std::chrono::steady_clock::time_point at);

 private:
  struct Look {
    std::string phase;
    double bytes;
    std::chrono::steady_clock::time_point at;
  };
  std::optional<Look> first_;  // of this phase: the rate is counted from there
};

// The answer to `request`, as ControlClient::call() would give it. Where stderr is a terminal the
// tree's progress is shown there meanwhile, by a second connection; else nothing.
peer::ControlAnswer call_with_progress(const std::string& socket, const proto::Value& request,
                                       const std::string& tree, base::Duration timeout);

// `status --watch`: until it is interrupted, on a terminal a screen each second, else what has
// changed. `text`: how an answer is printed.
int watch_status(const std::string& socket, base::Duration timeout,
                 const std::function<std::string(const proto::Value&)>& text);

}  // namespace mirrorbus::tools
