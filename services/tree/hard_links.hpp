// Files of an Index whose inode has, or may have, further paths in the tree: by the latest state,
// what is pending included. Part of an Index and its batches.
#pragma once

#include "proto/tree_version.hpp"

#include <cstdint>
#include <utility>
#include <vector>

namespace mirrorbus::tree {

class IndexDb;

class HardLinks {
 public:
  using Inode = std::pair<std::uint64_t, std::uint64_t>;  // device, number

  explicit HardLinks(IndexDb& db) : db_(db) {}

  void set(proto::ByteView path, const Inode& inode);
  void clear(proto::ByteView path);
  // `path` and everything below it.
  void clear_tree(proto::ByteView path);
  void move(std::uint64_t from_dev, std::uint64_t to_dev);

  bool any() const;
  std::vector<proto::Bytes> paths_of(const Inode& inode) const;  // in tree order
  // The inodes of `path` and of what lies below it, as far as they are linked.
  std::vector<Inode> inodes_in(proto::ByteView path) const;
  proto::LinksTable table() const;  // the inodes that have two paths or more

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
