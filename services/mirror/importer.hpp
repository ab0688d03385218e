// [tree.import]: a program that fills an origin's tree from elsewhere, every so often or when it is
// asked for. While it runs, and after it failed, the tree is neither the old version nor a new one:
// its owner publishes nothing then. That is remembered over a restart. Loop thread only.
#pragma once

#include "bus/base/process.hpp"
#include "services/mirror/tree_role.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

class Importer {
 public:
  // `may_run`: the tree is at rest. `done`: a run has ended; then problem() says how.
  Importer(const TreeContext& context, const TreeSettings& settings, base::Log& log,
           std::function<bool()> may_run, std::function<void()> done);

  // From now on by itself, at once if the last run was cut off or failed.
  void start();
  // Now, or as soon as the tree is at rest; a run under way counts.
  void run();
  bool configured() const { return !settings_.import.command.empty(); }
  bool running() const { return process_ != nullptr; }
  // The tree must not be published by itself.
  bool holds_back() const { return running() || unfinished_; }
  const std::string& problem() const { return problem_; }
  // Looks whether a run that is due may begin.
  void consider();

 private:
  void begin();
  void ended(const std::string& problem);
  std::string mark() const;  // a file that is there while the tree is not a whole import

  const TreeContext& context_;
  const TreeSettings& settings_;
  base::Log& log_;
  std::function<bool()> may_run_;
  std::function<void()> done_;
  base::Counter* failures_ = nullptr;
  bool due_ = false, unfinished_ = false;
  std::string problem_;
  std::unique_ptr<base::Process> process_;
  base::Timer every_;
  base::Later after_;
  std::string result_;
};

}  // namespace mirrorbus::mirror
