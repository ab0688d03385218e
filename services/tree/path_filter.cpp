#include "services/tree/path_filter.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "proto/wire.hpp"

#include <algorithm>
#include <charconv>

#include <fnmatch.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;

PathFilter::PathFilter(std::vector<std::string> exclude, std::vector<std::string> include,
                       Sizes sizes, std::string subtree)
    : exclude_(std::move(exclude)),
      include_(std::move(include)),
      sizes_(sizes),
      subtree_(std::move(subtree)) {}

bool PathFilter::leaves_out(ByteView path) const {
  if (exclude_.empty() && subtree_.empty()) return false;
  for (; !path.empty(); path = proto::parent_path(path))
    if (excludes(path)) return true;
  return false;
}

std::optional<std::uint64_t> parse_file_size(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number,
                                            std::chars_format::fixed);
  if (error != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  constexpr std::string_view kUnits = "bkmgtp";
  if (!text.empty() && text.front() != '+' && text.front() != '-') {
    const auto unit = kUnits.find(static_cast<char>(text.front() | 0x20));
    if (unit == std::string_view::npos) return std::nullopt;
    text.remove_prefix(1);
    double thousand = 1024;
    const auto next = [&text](std::string_view small) {
      if (text.size() < small.size()) return false;
      for (std::size_t i = 0; i < small.size(); ++i)
        if ((text[i] | 0x20) != small[i]) return false;
      text.remove_prefix(small.size());
      return true;
    };
    if (unit > 0 && !next("ib") && next("b")) thousand = 1000;
    for (std::size_t i = 0; i < unit; ++i) number *= thousand;
  }
  if (number >= 9e18) return std::nullopt;
  auto size = static_cast<std::uint64_t>(number);
  if (text == "+1")
    ++size;
  else if (text == "-1" && size > 0)
    --size;
  else if (!text.empty())
    return std::nullopt;
  return size;
}

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
  if (!subtree_.empty()) {
    if (proto::within(path, subtree_)) return false;
    if (!proto::within(subtree_, path)) return true;
  }
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
  if (sizes_ != Sizes{}) w.varint(sizes_.min).varint(sizes_.max);
  if (!subtree_.empty()) w.raw("subtree/").raw(subtree_);
  return proto::sha256(text);
}

}  // namespace mirrorbus::tree
