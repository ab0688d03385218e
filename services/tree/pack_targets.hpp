// The files a delta pack's step gives new content: how writer and reader number them, see pack.md.
#pragma once

#include "proto/node.hpp"
#include "services/tree/tree_view.hpp"

#include <optional>
#include <unordered_map>
#include <vector>

namespace mirrorbus::tree {

// A file of one of the two trees, by what its node says.
struct FileRef {
  proto::Bytes path;
  proto::Hash hash;
  std::uint64_t size = 0;
};

struct PackTarget {
  FileRef file;  // the first in order that has this content
  // The base's file at the path of the first in order that has this content and had another.
  std::optional<FileRef> base;
};

class PackTargets {
 public:
  // Called for each new node in tree order. `node` may be without child ids; `base` is the base's
  // node at the same path, with them, or null. Refuses what does not decode, and one content with
  // two sizes (SizeLie).
  proto::Decoded<void> add(proto::ByteView path, proto::ByteView node, proto::ChildIds ids,
                           const proto::Bytes* base);

  const std::vector<PackTarget>& all() const { return targets_; }
  // The number of the target with this content.
  std::optional<std::size_t> find(const proto::Hash& content) const;

 private:
  std::vector<PackTarget> targets_;
  std::unordered_map<proto::Hash, std::size_t> by_content_;
};

}  // namespace mirrorbus::tree
