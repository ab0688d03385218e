// The Merkle tree of a batch (RFC 9162 §2.1): leaf = SHA-256(0x00 ‖ …), node = SHA-256(0x01 ‖ L ‖ R),
// a lone last node of a level moves up unchanged.
#pragma once

#include "proto/bytes.hpp"

#include <bitset>
#include <cstddef>
#include <span>
#include <vector>

namespace mirrorbus::proto {

Hash merkle_node(const Hash& left, const Hash& right) noexcept;

class MerkleTree {
 public:
  // At least one leaf.
  explicit MerkleTree(std::vector<Hash> leaves);

  const Hash& root() const noexcept { return levels_.back().front(); }
  // The siblings from the leaf up, concatenated.
  void append_path(Bytes& out, std::size_t index) const;
  std::size_t path_nodes(std::size_t index) const;

 private:
  std::vector<std::vector<Hash>> levels_;
};

// Checks leaves of one batch against its signed root and remembers what it has seen proven, so that
// the next leaf costs its own hash and about one node. Leaves come in any order; at most 256.
class MerkleVerifier {
 public:
  MerkleVerifier() = default;
  MerkleVerifier(const Hash& root, std::size_t count);

  // `path` as append_path() writes it, whole. False changes nothing.
  bool verify(const Hash& leaf, std::size_t index, ByteView path) noexcept;

 private:
  std::size_t path_nodes(std::size_t index) const noexcept;
  // The node of `level` (0 = leaves) at `index`, in one flat array.
  std::size_t slot(std::size_t level, std::size_t index) const noexcept;

  std::size_t count_ = 0;
  std::size_t levels_ = 0;
  std::array<std::size_t, 10> offset_{};
  std::array<Hash, 520> known_;
  std::bitset<520> is_known_;
};

}  // namespace mirrorbus::proto
