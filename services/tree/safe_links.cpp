#include "services/tree/safe_links.hpp"

#include <algorithm>
#include <cstddef>

namespace mirrorbus::tree {

bool leads_out(proto::ByteView directory, proto::ByteView target) {
  if (target.empty() || target.front() == '/' || target.ends_with("/..")) return true;
  std::ptrdiff_t depth = directory.empty() ? 0 : std::ranges::count(directory, '/') + 1;
  bool named = false;
  while (!target.empty()) {
    const auto slash = target.find('/');
    const proto::ByteView part = target.substr(0, slash);
    target.remove_prefix(slash == proto::ByteView::npos ? target.size() : slash + 1);
    if (part.empty()) continue;
    if (part == "..") {
      if (named || --depth < 0) return true;
    } else {
      named = true;
    }
  }
  return false;
}

}  // namespace mirrorbus::tree
