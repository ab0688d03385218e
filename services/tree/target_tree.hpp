// The signed tree a mirror is on its way to: all of its nodes and tables, at hand before anything
// is planned. They come out of packs, or from a source by hash; what the index has is not asked
// for.
#pragma once

#include "services/tree/blob_cache.hpp"
#include "services/tree/content_source.hpp"
#include "services/tree/index.hpp"
#include "services/tree/plan.hpp"
#include "services/tree/progress.hpp"

#include <unordered_set>

namespace mirrorbus::tree {

class TargetTree : public TargetNodes {
 public:
  TargetTree(const Index& index, BlobCache& cache);

  // Fetches what is not known of the tree with this hash, from the root down. BadCount if it is
  // larger than signed, other refusals for what does not decode; SourceError if something cannot be
  // had.
  proto::Decoded<void> fetch(ContentSource& source, const proto::Hash& tree_hash,
                             const proto::TreeCounts& counts, const WorkControl& control);
  // The same, for a tree that is known whole (its nodes came out of a pack).
  proto::Decoded<void> set(const proto::TreeRoot& root, const proto::Bytes& links,
                           const proto::Bytes& owners);

  // Afterwards: fetches the sets of extended attributes that are named and not known. What a set is
  // refused for, if one does not decode.
  proto::Decoded<void> fetch_xattr_sets(ContentSource& source, const WorkControl& control);
  // Those that the index does not have yet.
  const std::vector<proto::Hash>& new_xattr_sets() const { return new_xattr_sets_; }

  const proto::TreeRoot& root() const { return root_; }
  const proto::LinksTable& links() const { return links_; }
  const proto::OwnersTable& owners() const { return owners_; }
  const proto::Bytes& links_bytes() const { return links_bytes_; }
  const proto::Bytes& owners_bytes() const { return owners_bytes_; }

  std::optional<proto::Bytes> find(const proto::Hash& id) const;
  proto::Bytes encoded(const proto::Hash& id) const override;
  void put(const proto::Hash& id, proto::ByteView bytes) { cache_.put(id, bytes); }

 private:
  void ask(ContentSource& source, const std::vector<proto::Hash>& ids, std::uint64_t limit_bytes);
  void ask_in_batches(ContentSource& source, const std::vector<proto::Hash>& ids,
                      std::uint64_t limit_bytes, const WorkControl& control);
  proto::Bytes get(ContentSource& source, const proto::Hash& id, std::uint64_t limit_bytes);
  void note_xattrs(const proto::Entry& entry);
  void look_for_xattrs();

  const Index& index_;
  BlobCache& cache_;
  proto::TreeRoot root_;
  proto::LinksTable links_;
  proto::OwnersTable owners_;
  proto::Bytes links_bytes_, owners_bytes_;
  std::vector<proto::Hash> new_xattr_sets_;
  std::unordered_set<proto::Hash> noted_;  // sets that were looked up
  bool all_noted_ = false;
};

}  // namespace mirrorbus::tree
