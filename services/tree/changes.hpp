// What changed from one version of a tree to another, from their nodes: for events, hooks and people.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_update.hpp"

#include <functional>
#include <optional>

namespace mirrorbus::tree {

// One of the two trees. Nodes are asked for only where ids differ, by path and id: whichever the tree
// knows them by. Throws what `node` throws.
struct TreeSide {
  proto::Entry root;
  std::function<proto::Bytes(const proto::Bytes& path, const proto::Hash& id)> node;
};

struct TreeChange {
  proto::Change change;
  bool directory = false;   // what is, or was, there
  bool times_only = false;  // Meta: nothing but mtimes
};

// In tree order of the path. A directory that is new, gone or moved stands for all that is in it; a
// directory's mtime is told of only where nothing in it explains it. Without `was`, everything is
// new. Stops when `sink` returns false.
void diff_trees(const std::optional<TreeSide>& was, const TreeSide& now,
                const std::function<bool(const TreeChange&)>& sink);

}  // namespace mirrorbus::tree
