// How much the committed tree of an Index holds, and whose it is: kept up by differences, since
// nobody walks the tree for it. Internal to Index.
#pragma once

#include "services/tree/index.hpp"

#include <map>

namespace mirrorbus::tree {

class IndexDb;

// What a set of rows adds to the totals, or takes away.
class Tally {
 public:
  void add(ByteView node, int sign);
  // The root: it has an owner, and is counted nowhere.
  void own(const proto::Entry& entry, int sign);

 private:
  friend class IndexTotals;
  using Owners = std::map<std::pair<int, std::uint32_t>, std::int64_t>;  // kind: 0 user, 1 group
  void add(const proto::Entry& entry, int sign);
  proto::TreeCounts added_to(const proto::TreeCounts& counts) const;

  std::int64_t entries_ = 0, files_ = 0, directories_ = 0, symlinks_ = 0, bytes_ = 0;
  Owners owners_;
};

class IndexTotals {
 public:
  explicit IndexTotals(IndexDb& db) : db_(db) {}

  proto::TreeCounts counts() const;
  void apply(const Tally& tally);
  // As they would be after that.
  Index::Totals with(const Tally& tally) const;

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
