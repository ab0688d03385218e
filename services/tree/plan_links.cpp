#include "services/tree/plan_links.hpp"

#include "proto/tree_path.hpp"

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;

LinkGroups::LinkGroups(const proto::LinksTable& table)
    : groups_(table.groups), changed_(table.groups.size(), false) {
  for (std::uint32_t group = 0; group < groups_.size(); ++group)
    for (const Bytes& path : groups_[group]) by_path_.emplace(path, group);
}

std::uint32_t LinkGroups::of(ByteView path) const {
  const auto found = by_path_.find(path);
  return found == by_path_.end() ? kNoGroup : found->second;
}

void LinkGroups::compare(LinkGroups& a, LinkGroups& b) {
  // Both are in the order of their groups' first paths.
  std::uint32_t i = 0, j = 0;
  while (i < a.groups_.size() || j < b.groups_.size()) {
    const auto order = i == a.groups_.size() ? std::strong_ordering::greater
                       : j == b.groups_.size()
                           ? std::strong_ordering::less
                           : proto::compare_paths(a.groups_[i].front(), b.groups_[j].front());
    if (order < 0) {
      a.changed_[i++] = true;
    } else if (order > 0) {
      b.changed_[j++] = true;
    } else {
      const bool same = a.groups_[i] == b.groups_[j];
      a.changed_[i++] = !same;
      b.changed_[j++] = !same;
    }
  }
}

bool ForcedDirectories::add_parent_of(ByteView path) {
  bool grown = false;
  do {
    path = proto::parent_path(path);
    if (!paths_.emplace(path).second) return grown;
    grown = true;
  } while (!path.empty());
  return grown;
}

}  // namespace mirrorbus::tree
