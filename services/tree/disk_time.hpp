// Up to when all that was written to a tree is known to be on disk.
//
// An origin reads files that others write and do not sync. After a crash such a file may be as it was
// before, under the times of what was lost: metadata and data go to disk apart. So after a reboot what
// bears a time since the last sync is read again, whatever lstat says.
#pragma once

#include "services/tree/index.hpp"

#include <ctime>
#include <optional>
#include <string>

namespace mirrorbus::tree {

class DiskTime {
 public:
  // `boot`: as current_boot().
  DiskTime(Index& index, std::string boot);

  // From when on files are doubtful; nothing if this boot has looked at all of them already.
  std::optional<timespec> doubtful_since() const;
  void looked_at_all();

  // Filesystem time `at` was taken, then the filesystem was synced.
  void synced(const timespec& at);

 private:
  Index& index_;
  std::string boot_;
};

}  // namespace mirrorbus::tree
