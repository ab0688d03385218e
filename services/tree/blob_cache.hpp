// Signed metadata (nodes, tree roots, tables) on its way into the index: a file of blobs by their
// SHA-256 that survives a restart, so that an interrupted sync does not ask for them again.
//
// Append-only. Every blob is hashed when the file is opened, and what does not fit (a torn end) is
// cut off. get() may be called by several threads while nobody calls put().
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <optional>
#include <unordered_map>

namespace mirrorbus::tree {

class BlobCache {
 public:
  // The file `name` in the directory `dir`.
  BlobCache(int dir, const proto::Bytes& name);

  bool has(const proto::Hash& id) const { return blobs_.contains(id); }
  std::optional<proto::Bytes> get(const proto::Hash& id) const;
  // The caller has hashed it.
  void put(const proto::Hash& id, proto::ByteView bytes);
  void clear();

 private:
  struct Slot {
    std::uint64_t at;
    std::uint32_t size;
  };
  void load();

  base::Fd file_;
  std::uint64_t end_ = 0;
  std::unordered_map<proto::Hash, Slot> blobs_;
  proto::Bytes buffer_;  // from end_ on; written when it is large enough or somebody reads
  void flush();
};

}  // namespace mirrorbus::tree
