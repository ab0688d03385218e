// A whole tree seen through its nodes, by path: what a delta pack is read against.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_version.hpp"

#include <functional>
#include <optional>
#include <vector>

namespace mirrorbus::tree {

// From the root down by node ids, wherever the nodes are kept: an index, a cache of what has come,
// both. Remembers the way to the last directory asked for. One thread.
class TreeView {
 public:
  // The encoded node, or nothing if it is not at hand.
  using NodeById = std::function<std::optional<proto::Bytes>(const proto::Hash& id)>;

  // The empty tree, which a first version's pack starts from.
  TreeView() = default;
  // `links` and `owners` are the encoded tables. A node that turns out not to be at hand ends the
  // work with std::runtime_error: the caller is to have all of them.
  TreeView(NodeById nodes, const proto::TreeRoot& root, proto::Bytes links, proto::Bytes owners);

  struct Directory {
    proto::Bytes path;
    proto::Hash id;
    proto::Bytes node;
  };
  // Nothing if there is no such directory.
  const Directory* directory(proto::ByteView path) const;
  // In tree order from `first` to `last`, both included if they are there. Stops at false.
  void each(proto::ByteView first, proto::ByteView last,
            const std::function<bool(const Directory&)>& visit) const;

  bool empty() const { return !nodes_; }
  const proto::Hash& tree_hash() const { return tree_hash_; }  // zero for the empty tree
  const proto::Bytes& links() const { return links_; }
  const proto::Bytes& owners() const { return owners_; }

 private:
  Directory load(proto::Bytes path, const proto::Hash& id) const;
  bool visit_below(const Directory& from, proto::ByteView first, proto::ByteView last,
                   const std::function<bool(const Directory&)>& visit) const;

  NodeById nodes_;
  proto::Hash root_id_;
  proto::Hash tree_hash_;
  proto::Bytes links_, owners_;
  struct Step {
    Directory directory;
    std::vector<std::pair<proto::Bytes, proto::Hash>> children;  // directories; once one is wanted
    bool listed = false;
  };
  const proto::Hash* child(Step& step, proto::ByteView name) const;
  mutable std::vector<Step> way_;  // the root, then each directory down to the last asked for
};

// The entry called `name`, if the node has it. Reads up to it, so a node is not built for one entry.
std::optional<proto::Entry> find_entry(proto::ByteView node, proto::ByteView name,
                                       proto::ChildIds ids = proto::ChildIds::Present);

}  // namespace mirrorbus::tree
