#include "services/tree/path_filter.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "proto/wire.hpp"

#include <algorithm>

#include <fnmatch.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;

PathFilter::PathFilter(std::vector<std::string> exclude, std::vector<std::string> include)
    : exclude_(std::move(exclude)), include_(std::move(include)) {}

bool glob_matches(const std::string& pattern, ByteView path) {
  const auto matches = [](const char* glob, ByteView text) {
    return ::fnmatch(glob, Bytes(text).c_str(), FNM_PATHNAME) == 0;
  };
  if (pattern.find('/') == std::string::npos)
    return matches(pattern.c_str(), proto::last_name(path));
  if (pattern.starts_with("**/")) {
    const char* rest = pattern.c_str() + 3;
    while (true) {
      if (matches(rest, path)) return true;
      const auto slash = path.find('/');
      if (slash == ByteView::npos) return false;
      path.remove_prefix(slash + 1);
    }
  }
  return matches(pattern.c_str() + (pattern.starts_with('/') ? 1 : 0), path);
}

bool PathFilter::excludes(ByteView path) const {
  const auto any = [path](const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns, [path](const auto& p) { return glob_matches(p, path); });
  };
  return any(exclude_) && !any(include_);
}

std::optional<proto::Hash> PathFilter::hash() const {
  if (empty()) return std::nullopt;
  Bytes text;
  proto::Writer w(text);
  for (const auto* patterns : {&exclude_, &include_}) {
    w.varint(patterns->size());
    for (const auto& p : *patterns) w.varint(p.size()).raw(p);
  }
  return proto::sha256(text);
}

}  // namespace mirrorbus::tree
