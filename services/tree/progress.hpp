// How work on a tree reports and is stopped: handed in by whoever started it. Called often (the
// receiver thins it out), on the thread that works or its helpers', by one of them at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string_view>

namespace mirrorbus::tree {

enum class Phase {
  Planning,
  Fetching,
  Staging,
  Applying,
  Checking,
  Committing,
  Verifying,
  Scanning,  // an origin
  Packing,
};

constexpr std::string_view to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::Planning: return "planning";
    case Phase::Fetching: return "fetching";
    case Phase::Staging: return "staging";
    case Phase::Applying: return "applying";
    case Phase::Checking: return "checking";
    case Phase::Committing: return "committing";
    case Phase::Verifying: return "verifying";
    case Phase::Scanning: return "scanning";
    case Phase::Packing: return "packing";
  }
  return "unknown";
}

struct Progress {
  Phase phase = Phase::Planning;
  std::uint64_t bytes = 0, bytes_total = 0;  // a total of 0 is not known
  std::uint64_t files = 0, files_total = 0;
};

// Thrown out of work whose `cancel` was set. What was staged is kept.
struct Cancelled : std::runtime_error {
  Cancelled() : std::runtime_error("cancelled") {}
};

struct WorkControl {
  std::function<void(const Progress&)> progress;
  const std::atomic<bool>* cancel = nullptr;

  void report(const Progress& now) const {
    if (progress) progress(now);
  }
  void check() const {
    if (cancel && cancel->load(std::memory_order_relaxed)) throw Cancelled();
  }
};

}  // namespace mirrorbus::tree
