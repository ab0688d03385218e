// The patterns of `last`: shell globs. One without '/' is for names in any directory, one with it
// for whole paths; there `*` does not cross a '/', and a leading "**/" is for any depth.
#pragma once

#include "proto/bytes.hpp"

#include <string>
#include <vector>

namespace mirrorbus::tree {

class NamePatterns {
 public:
  explicit NamePatterns(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}
  bool empty() const { return patterns_.empty(); }
  bool match(proto::ByteView path) const;

 private:
  std::vector<std::string> patterns_;
};

}  // namespace mirrorbus::tree
