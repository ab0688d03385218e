// Link groups as a plan needs them: whose member a path is, and which groups are not what they
// were.
#pragma once

#include "proto/tree_version.hpp"

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace mirrorbus::tree {

// Over a table that outlives it.
class LinkGroups {
 public:
  explicit LinkGroups(const proto::LinksTable& table);

  bool empty() const { return groups_.empty(); }
  // The group's number in the table, or kNoGroup.
  std::uint32_t of(proto::ByteView path) const;
  std::size_t size(std::uint32_t group) const { return groups_[group].size(); }
  const std::vector<proto::Bytes>& paths(std::uint32_t group) const { return groups_[group]; }

  bool changed(std::uint32_t group) const { return changed_[group]; }
  // Marks on both sides the groups that the other side does not have with the same members.
  static void compare(LinkGroups& a, LinkGroups& b);

  static constexpr std::uint32_t kNoGroup = UINT32_MAX;

 private:
  const std::vector<std::vector<proto::Bytes>>& groups_;
  std::unordered_map<proto::ByteView, std::uint32_t> by_path_;
  std::vector<bool> changed_;
};

// Directories that have to be entered although their node ids say that nothing changed.
class ForcedDirectories {
 public:
  // And everything above it. False if it was there already.
  bool add_parent_of(proto::ByteView path);
  bool contains(proto::ByteView path) const { return paths_.contains(proto::Bytes(path)); }

 private:
  std::unordered_set<proto::Bytes> paths_;
};

}  // namespace mirrorbus::tree
