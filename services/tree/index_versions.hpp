// Which versions an Index retains, and the nodes and tables that only they still need. Internal to
// Index.
#pragma once

#include "services/tree/index.hpp"

namespace mirrorbus::tree {

class IndexDb;

class IndexVersions {
 public:
  explicit IndexVersions(IndexDb& db) : db_(db) {}

  void insert(const StoredVersion& version, ByteView links, ByteView owners);
  std::uint64_t newest_number() const;  // 0: none
  std::optional<StoredVersion> get(std::uint64_t number) const;
  std::vector<std::uint64_t> numbers() const;
  std::vector<std::uint64_t> unannounced() const;
  void mark_announced(std::uint64_t number, ByteView sealed);
  void forget_below(std::uint64_t number);
  void forget_from(std::uint64_t number);

  // Until `last_version` is forgotten; 0: not at all.
  void keep(const Hash& id, ByteView bytes, std::uint64_t last_version);
  std::optional<Bytes> kept(const Hash& id) const;

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
