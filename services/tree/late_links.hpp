// The content store's links to files that are there again under another inode, with the content they
// had: an ordinary rsync makes new inodes of all it touches. The store still has the old inode then,
// so a version can be closed without these links, and they are taken at leisure; until then such a
// content takes its place on the disk twice.
//
// That some are missing is noted in the index; where, is known only to this. After a restart all
// directories are looked through.
//
// Part of OriginTree. Blocking. Not while the tree is scanned.
#pragma once

#include "services/tree/content_store.hpp"
#include "services/tree/index.hpp"
#include "services/tree/root_dir.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

class LateLinks {
 public:
  LateLinks(Index& index, ContentStore& store, std::string root_path);

  // A directory with such a file; before its row is committed.
  void add(const Bytes& directory);

  // Takes about `limit` links. Whether there is more to do.
  bool some(std::size_t limit);

 private:
  std::optional<RootDir> open_root() const;
  void list_all();
  std::size_t look_into(RootDir& root, const Bytes& path);

  Index& index_;
  ContentStore& store_;
  const std::string root_path_;
  std::vector<Bytes> directories_;
  bool somewhere_ = false;  // noted by an earlier run
};

}  // namespace mirrorbus::tree
