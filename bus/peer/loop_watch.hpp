// Knows whether a daemon's loops still turn: asks each, every so often, to run something.
#pragma once

#include "bus/base/loop.hpp"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::peer {

class LoopWatch {
 public:
  // `tick` runs on `loop` every `interval` as long as all loops turn.
  LoopWatch(base::Loop& loop, base::Duration interval, base::Task tick);

  void add(std::string name, base::Loop& loop);
  // The first loop that has not turned since the last question, if there is one.
  std::optional<std::string> stuck() const;

 private:
  void ask();

  struct Watched {
    std::string name;
    base::Loop& loop;
    std::shared_ptr<std::atomic<bool>> turned;  // shared with the question under way
  };
  base::Loop& loop_;
  base::Duration interval_;
  base::Task tick_;
  std::vector<Watched> watched_;
  std::optional<std::string> stuck_;
  base::Timer timer_;
};

}  // namespace mirrorbus::peer
