// A file that is handed out, as it was when it was opened.
#pragma once

#include "bus/base/fd.hpp"

#include <cstdint>

#include <sys/stat.h>

namespace mirrorbus::tree {

struct ServedFile {
  base::Fd fd;
  struct stat st {};
  std::uint64_t size() const { return static_cast<std::uint64_t>(st.st_size); }
  // What has been read meanwhile is what was opened.
  bool unchanged() const;
};

}  // namespace mirrorbus::tree
