// `exclude` and `include` of a tree: which paths are not part of it.
//
// Shell globs, as bytes. One without '/' is for the name of anything at any depth; one with it is for
// whole paths, where `*` does not cross a '/', a leading "/" says that it starts at the root (it does
// anyway) and a leading "**/" that it may start anywhere. What an exclude matches is out, with all
// that lies in it, unless an include matches it too.
#pragma once

#include "proto/bytes.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

class PathFilter {
 public:
  PathFilter() = default;
  PathFilter(std::vector<std::string> exclude, std::vector<std::string> include);

  bool empty() const { return exclude_.empty(); }
  // Of the path itself; that a directory above it is out is the caller's to know.
  bool excludes(proto::ByteView path) const;
  // What names this filter in events; nothing if it lets everything through.
  std::optional<proto::Hash> hash() const;

 private:
  std::vector<std::string> exclude_, include_;
};

bool glob_matches(const std::string& pattern, proto::ByteView path);

}  // namespace mirrorbus::tree
