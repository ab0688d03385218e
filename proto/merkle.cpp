#include "proto/merkle.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"

#include <cassert>

namespace mirrorbus::proto {

Hash merkle_node(const Hash& left, const Hash& right) noexcept {
  unsigned char bytes[1 + 2 * Hash::kSize];
  bytes[0] = 1;
  std::memcpy(bytes + 1, left.octets.data(), Hash::kSize);
  std::memcpy(bytes + 1 + Hash::kSize, right.octets.data(), Hash::kSize);
  return sha256({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

MerkleTree::MerkleTree(std::vector<Hash> leaves) {
  assert(!leaves.empty());
  levels_.push_back(std::move(leaves));
  while (levels_.back().size() > 1) {
    const std::vector<Hash>& below = levels_.back();
    std::vector<Hash> level;
    level.reserve((below.size() + 1) / 2);
    for (std::size_t i = 0; i + 1 < below.size(); i += 2)
      level.push_back(merkle_node(below[i], below[i + 1]));
    if (below.size() % 2 != 0) level.push_back(below.back());
    levels_.push_back(std::move(level));
  }
}

void MerkleTree::append_path(Bytes& out, std::size_t index) const {
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level, index /= 2)
    if ((index ^ 1) < levels_[level].size()) out += levels_[level][index ^ 1].view();
}

std::size_t MerkleTree::path_nodes(std::size_t index) const {
  std::size_t nodes = 0;
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level, index /= 2)
    nodes += (index ^ 1) < levels_[level].size();
  return nodes;
}

MerkleVerifier::MerkleVerifier(const Hash& root, std::size_t count) : count_(count) {
  assert(count >= 1 && count <= kMaxBatchEvents);
  std::size_t offset = 0;
  for (std::size_t size = count;; size = (size + 1) / 2) {
    offset_[levels_++] = offset;
    offset += size;
    if (size == 1) break;
  }
  known_[offset - 1] = root;
  is_known_[offset - 1] = true;
}

std::size_t MerkleVerifier::slot(std::size_t level, std::size_t index) const noexcept {
  return offset_[level] + index;
}

std::size_t MerkleVerifier::path_nodes(std::size_t index) const noexcept {
  std::size_t nodes = 0;
  for (std::size_t size = count_; size > 1; size = (size + 1) / 2, index /= 2)
    nodes += (index ^ 1) < size;
  return nodes;
}

bool MerkleVerifier::verify(const Hash& leaf, std::size_t index, ByteView path) noexcept {
  if (index >= count_ || path.size() != path_nodes(index) * Hash::kSize) return false;
  // Climb to the first node already proven; what was climbed through is proven if it agrees.
  struct Step {
    std::size_t slot;
    Hash hash;
  };
  std::array<Step, 20> climbed;
  std::size_t steps = 0;
  Hash node = leaf;
  std::size_t size = count_;
  for (std::size_t level = 0;; ++level, index /= 2, size = (size + 1) / 2) {
    const std::size_t here = slot(level, index);
    if (is_known_[here]) {
      if (known_[here] != node) return false;
      break;
    }
    climbed[steps++] = {here, node};
    const std::size_t sibling = index ^ 1;
    if (sibling >= size) continue;  // lone last node: moves up as it is
    if (path.size() < Hash::kSize) return false;
    const Hash other = Hash::from_bytes(path.substr(0, Hash::kSize));
    path.remove_prefix(Hash::kSize);
    const std::size_t there = slot(level, sibling);
    if (is_known_[there] && known_[there] != other) return false;
    climbed[steps++] = {there, other};
    node = index % 2 == 0 ? merkle_node(node, other) : merkle_node(other, node);
  }
  for (std::size_t i = 0; i < steps; ++i) {
    known_[climbed[i].slot] = climbed[i].hash;
    is_known_[climbed[i].slot] = true;
  }
  return true;
}

}  // namespace mirrorbus::proto
