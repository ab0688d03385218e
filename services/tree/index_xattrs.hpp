// The sets of extended attributes that nodes of an Index name. Part of an Index and its batches.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <optional>
#include <unordered_set>

namespace mirrorbus::tree {

class IndexDb;

class IndexXattrs {
 public:
  explicit IndexXattrs(IndexDb& db) : db_(db) {}

  // An encoded set, under its id.
  void keep(const proto::Hash& id, proto::ByteView bytes);
  std::optional<proto::Bytes> find(const proto::Hash& id) const;
  std::uint64_t count() const;
  // Forgets all others. Returns how many.
  std::uint64_t keep_only(const std::unordered_set<proto::Hash>& wanted);

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
