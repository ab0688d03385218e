// What is at each path of a tree, and whether that is old or new.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace mirrorbus::test {

// Contents and link targets by path.
using PathContents = std::map<std::string, std::string>;

inline PathContents path_contents(const std::string& top) {
  namespace fs = std::filesystem;
  PathContents all;
  for (const auto& each : fs::recursive_directory_iterator(top)) {
    const std::string path = each.path().string().substr(top.size() + 1);
    if (each.is_symlink()) {
      all[path] = "symlink " + fs::read_symlink(each).string();
    } else if (each.is_regular_file()) {
      std::ifstream in(each.path(), std::ios::binary);
      all[path] = "file " + std::string(std::istreambuf_iterator<char>(in), {});
    }
  }
  return all;
}

// What is wrong with a tree that is on its way from `before` to `after`; "" if nothing.
inline std::string neither_old_nor_new(const PathContents& before, const PathContents& after,
                                       const PathContents& now) {
  for (const auto& [path, content] : now) {
    const auto old = before.find(path), fresh = after.find(path);
    if ((old == before.end() || old->second != content) &&
        (fresh == after.end() || fresh->second != content))
      return path + " is neither what it was nor what it shall be";
  }
  for (const auto& [path, content] : before)
    if (after.contains(path) && !now.contains(path)) return path + " is gone, and should never be";
  return "";
}

}  // namespace mirrorbus::test
