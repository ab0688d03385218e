#include "proto/tree_path.hpp"

#include "proto/limits.hpp"

#include <algorithm>

namespace mirrorbus::proto {

bool valid_entry_name(ByteView name) noexcept {
  return !name.empty() && name.size() <= kMaxFileNameSize && name != "." && name != ".." &&
         name != kWorkFolderName && name.find_first_of(ByteView("/\0", 2)) == ByteView::npos;
}

bool valid_tree_path(ByteView path) noexcept {
  if (path.size() > kMaxPathSize) return false;
  while (true) {
    const auto slash = path.find('/');
    if (!valid_entry_name(path.substr(0, slash))) return false;
    if (slash == ByteView::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::strong_ordering compare_paths(ByteView a, ByteView b) noexcept {
  const auto [at_a, at_b] = std::ranges::mismatch(a, b);
  const auto rank = [](ByteView path, ByteView::const_iterator at) {
    if (at == path.end()) return 0;
    return *at == '/' ? 1 : 2 + static_cast<unsigned char>(*at);
  };
  return rank(a, at_a) <=> rank(b, at_b);
}

Bytes join_path(ByteView directory, ByteView name) {
  Bytes path;
  path.reserve(directory.size() + 1 + name.size());
  path += directory;
  if (!directory.empty()) path += '/';
  path += name;
  return path;
}

ByteView parent_path(ByteView path) noexcept {
  const auto slash = path.rfind('/');
  return slash == ByteView::npos ? ByteView{} : path.substr(0, slash);
}

ByteView last_name(ByteView path) noexcept {
  const auto slash = path.rfind('/');
  return slash == ByteView::npos ? path : path.substr(slash + 1);
}

bool within(ByteView directory, ByteView path) noexcept {
  return directory.empty() || path == directory ||
         (path.size() > directory.size() && path[directory.size()] == '/' &&
          path.starts_with(directory));
}

}  // namespace mirrorbus::proto
