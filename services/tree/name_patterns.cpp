#include "services/tree/name_patterns.hpp"

#include "proto/tree_path.hpp"

#include <fnmatch.h>

namespace mirrorbus::tree {

bool NamePatterns::match(proto::ByteView path) const {
  const proto::Bytes whole(path), name(proto::last_name(path));
  for (const std::string& pattern : patterns_) {
    if (pattern.find('/') == std::string::npos) {
      if (::fnmatch(pattern.c_str(), name.c_str(), 0) == 0) return true;
      continue;
    }
    if (!pattern.starts_with("**/")) {
      if (::fnmatch(pattern.c_str(), whole.c_str(), FNM_PATHNAME) == 0) return true;
      continue;
    }
    // Against the whole path and each of its tails.
    const std::string rest = pattern.substr(3);
    for (std::size_t at = 0;; ++at) {
      if (::fnmatch(rest.c_str(), whole.c_str() + at, FNM_PATHNAME) == 0) return true;
      if ((at = whole.find('/', at)) == proto::Bytes::npos) break;
    }
  }
  return false;
}

}  // namespace mirrorbus::tree
