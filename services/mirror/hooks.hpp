// Programs an operator wants run when a version is in place (a mirror) or published (an origin).
//
// One after the other, each hook of the tree, and never two at once. What comes meanwhile is put
// together: the next run is told of all that changed since the one before. A hook that fails is
// counted and shown, and holds nothing up. Loop thread only; the list of changes is made on the
// role's worker.
#pragma once

#include "bus/base/pool.hpp"
#include "bus/base/process.hpp"
#include "services/mirror/tree_role.hpp"
#include "services/tree/index.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <string>

namespace mirrorbus::mirror {

class Hooks {
 public:
  // `index` is the worker's, there once a version is. All references outlive this but the worker,
  // which ends first.
  Hooks(const TreeContext& context, const TreeSettings& settings, base::Log& log,
        base::WorkerPool& worker, std::function<const tree::Index&()> index);

  // From version `from` (0: nothing) to `to`. `event`: "sync" or "publish".
  void changed(const char* event, std::uint64_t from, const proto::VersionRecord& to);
  // Of the last run; empty if it was good.
  const std::string& problem() const { return problem_; }

 private:
  struct Change {
    const char* event;
    std::uint64_t from;
    proto::VersionRecord to;
  };
  void begin();
  void run(std::size_t which, bool all);
  void failed(std::size_t which, const std::string& why);
  std::string file() const;

  const TreeContext& context_;
  const TreeSettings& settings_;
  base::Log& log_;
  base::WorkerPool& worker_;
  std::function<const tree::Index&()> index_;
  std::optional<Change> next_;
  std::optional<Change> now_;
  std::string problem_, found_;
  base::Counter* failures_ = nullptr;  // where there are hooks
  std::unique_ptr<base::Process> process_;
  base::Later go_on_;
  std::size_t which_ = 0;
  bool all_ = false;
};

// Writes what leads from one version to the other, as operators' programs read it: op NUL path NUL,
// of a move op NUL path NUL path NUL. False if it cannot be told: take everything as changed.
bool write_changes(const tree::Index& index, std::uint64_t from, std::uint64_t to,
                   const std::string& file);

}  // namespace mirrorbus::mirror
