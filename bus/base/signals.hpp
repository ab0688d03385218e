// Signals as callbacks on the loop. From construction on the signals no longer do what they did by
// default, so the loop must run. Loop thread only.
#pragma once

#include "bus/base/loop.hpp"

#include <functional>
#include <initializer_list>
#include <memory>

namespace mirrorbus::base {

class Signals {
 public:
  using Callback = std::move_only_function<void(int signal)>;

  Signals(Loop& loop, std::initializer_list<int> signals, Callback callback);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the wait in flight
};

}  // namespace mirrorbus::base
