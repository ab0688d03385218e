// Lines of a descriptor, without waiting for them longer than there is time. One thread.
#pragma once

#include "bus/base/clock.hpp"

#include <string>

namespace mirrorbus::tools {

class LineReader {
 public:
  // A longer line is an error: std::runtime_error.
  explicit LineReader(int fd, std::size_t longest) : fd_(fd), longest_(longest) {}

  enum class Found { Line, NotYet, End };
  // The next line, without its end, in `line`. The last one need not have an end. Waits at most so
  // long; negative: as long as it takes. Throws std::system_error.
  Found next(std::string& line, base::Duration at_most);

 private:
  const int fd_;
  const std::size_t longest_;
  std::string buffer_;
  std::size_t searched_ = 0;  // no end of a line before it
  std::size_t begin_ = 0;
  bool end_ = false;
};

}  // namespace mirrorbus::tools
