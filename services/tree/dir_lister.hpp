// The names in a directory, sorted, without an allocation for each.
#pragma once

#include "proto/bytes.hpp"

#include <vector>

namespace mirrorbus::tree {

class DirLister {
 public:
  // Without "." and ".."; valid until the next call. False, with errno, if it cannot be read.
  bool list(int dir);
  const std::vector<proto::ByteView>& names() const { return names_; }

 private:
  std::vector<char> buffer_;
  std::vector<proto::ByteView> names_;
};

}  // namespace mirrorbus::tree
