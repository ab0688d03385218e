// `exclude` and `include` of a tree, `max_size` and `min_size`: which paths are not part of it.
//
// Shell globs, as bytes. One without '/' is for the name of anything at any depth; one with it is for
// whole paths, where `*` does not cross a '/', a leading "/" says that it starts at the root (it does
// anyway) and a leading "**/" that it may start anywhere. What an exclude matches is out, with all
// that lies in it, unless an include matches it too. Sizes are for regular files.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::tree {

// Bytes of a file that is in.
struct FileSizes {
  std::uint64_t min = 0, max = UINT64_MAX;
  bool operator==(const FileSizes&) const = default;
};

class PathFilter {
 public:
  PathFilter() = default;
  using Sizes = FileSizes;
  // `subtree`: what is not in this directory, nor leads to it, is out; empty: nothing is for that.
  PathFilter(std::vector<std::string> exclude, std::vector<std::string> include, Sizes sizes = {},
             std::string subtree = {});

  bool empty() const { return exclude_.empty() && subtree_.empty() && sizes_ == Sizes{}; }
  // Of the path itself; that a directory above it is out is the caller's to know.
  bool excludes(proto::ByteView path) const;
  // That it or a directory above it is out.
  bool leaves_out(proto::ByteView path) const;
  // Of a regular file's size.
  bool excludes_size(std::uint64_t size) const { return size < sizes_.min || size > sizes_.max; }
  // What names this filter in events; nothing if it lets everything through.
  std::optional<proto::Hash> hash() const;

 private:
  std::vector<std::string> exclude_, include_;
  Sizes sizes_;
  std::string subtree_;
};

// As rsync's --max-size has it: "1.5m", "10K" (1024), "10KB" (1000), "10KiB" (1024), "1G-1".
std::optional<std::uint64_t> parse_file_size(std::string_view text);

bool glob_matches(const std::string& pattern, proto::ByteView path);

}  // namespace mirrorbus::tree
