// Files that tell programs how a tree stands, for monitors that would rather read a file than a
// socket: `status_file`, what the verb `status` says of the tree, as JSON; and `trace_file`, one
// like those in project/trace of Debian's archive, whose first line is when the tree was last good.
//
// Each is replaced as a whole: the status when it changes, and once a minute; the trace with each
// version. Loop thread; written on a worker.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/pool.hpp"
#include "services/mirror/tree_role.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

class StatusFiles {
 public:
  using Trees = std::vector<std::unique_ptr<TreeRole>>;
  // Looks once a second. `trees` outlives this.
  StatusFiles(base::Loop& loop, base::Log log, const Trees& trees);

 private:
  struct Written {
    std::string status;
    base::MonoTime at{};
    std::uint64_t version = 0;
    bool bad = false;
  };
  void look();
  void write(const std::string& tree, const std::string& file, std::string text);

  base::Loop& loop_;
  base::Log log_;
  const Trees& trees_;
  std::map<std::string, Written> written_;  // by tree
  base::Timer every_;
  base::WorkerPool worker_;
};

// The text of a trace file. `host`: this one.
std::string trace_text(const TreeStatus& status, base::WallTime now, const std::string& host);
// The version a trace file's text was written for; 0 if it is none.
std::uint64_t trace_version(std::string_view text);

}  // namespace mirrorbus::mirror
