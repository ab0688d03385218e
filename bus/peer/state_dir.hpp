// A daemon's state directory: made if it is not there, and held by one process at a time.
#pragma once

#include "bus/base/fd.hpp"

#include <string>

namespace mirrorbus::peer {

class StateDir {
 public:
  // Makes `path` (mode 0700) and what is missing above it (0755), and locks it. Throws
  // std::runtime_error that names the process which holds it if there is one.
  explicit StateDir(std::string path);

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
  base::Fd lock_;  // held until the process ends, however it ends
};

}  // namespace mirrorbus::peer
