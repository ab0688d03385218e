#include "bus/peer/loop_watch.hpp"

namespace mirrorbus::peer {

LoopWatch::LoopWatch(base::Loop& loop, base::Duration interval, base::Task tick)
    : loop_(loop), interval_(interval), tick_(std::move(tick)), timer_(loop) {
  timer_.start(interval_, [this] { ask(); });
}

void LoopWatch::add(std::string name, base::Loop& loop) {
  watched_.push_back({std::move(name), loop, std::make_shared<std::atomic<bool>>(true)});
}

std::optional<std::string> LoopWatch::stuck() const { return stuck_; }

void LoopWatch::ask() {
  stuck_.reset();
  for (Watched& watched : watched_) {
    if (!watched.turned->exchange(false)) {
      stuck_ = watched.name;
      continue;  // one question at a time
    }
    watched.loop.post([turned = watched.turned] { *turned = true; });
  }
  // That we are here is the proof for our own loop.
  if (!stuck_) tick_();
  timer_.start(interval_, [this] { ask(); });
}

}  // namespace mirrorbus::peer
