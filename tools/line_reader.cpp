#include "tools/line_reader.hpp"

#include "bus/base/fd.hpp"

#include <stdexcept>

#include <fmt/core.h>
#include <poll.h>

namespace mirrorbus::tools {

LineReader::Found LineReader::next(std::string& line, base::Duration at_most) {
  for (;;) {
    const std::size_t newline = buffer_.find('\n', searched_);
    searched_ = newline == std::string::npos ? buffer_.size() : newline + 1;
    const std::size_t length = std::min(newline, buffer_.size()) - begin_;
    if (length > longest_)
      throw std::runtime_error(fmt::format("a line is longer than {} bytes", longest_));
    if (newline != std::string::npos || (end_ && length > 0)) {
      line.assign(buffer_, begin_, length);
      begin_ = searched_;
      return Found::Line;
    }
    if (end_) return Found::End;
    pollfd ready{fd_, POLLIN, 0};
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at_most).count();
    const int found =
        ::poll(&ready, 1, at_most < base::Duration::zero() ? -1 : static_cast<int>(ms));
    if (found < 0 && errno != EINTR) base::throw_errno("waiting for standard input");
    if (found <= 0) return Found::NotYet;
    buffer_.erase(0, begin_);
    searched_ -= begin_;
    begin_ = 0;
    char chunk[64 * 1024];
    const ssize_t got = ::read(fd_, chunk, sizeof chunk);
    if (got < 0 && errno != EINTR && errno != EAGAIN) base::throw_errno("reading standard input");
    if (got > 0) buffer_.append(chunk, static_cast<std::size_t>(got));
    end_ = got == 0;
  }
}

}  // namespace mirrorbus::tools
