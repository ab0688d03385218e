// Leaves of a batch are proven in any order, some with what proves nothing.
#include "proto/merkle.hpp"
#include "proto/sha256.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  const std::size_t count = 1 + in.byte();
  std::vector<proto::Hash> leaves(count);
  for (std::size_t i = 0; i < count; ++i) leaves[i].octets = {static_cast<unsigned char>(i), 1};
  const proto::MerkleTree tree(leaves);
  proto::MerkleVerifier verifier(tree.root(), count);
  while (!in.done()) {
    const std::size_t index = in.below(count), claimed = in.flag() ? index : in.byte();
    proto::Hash leaf = leaves[index];
    proto::Bytes path;
    tree.append_path(path, index);
    fuzz::require(path.size() == tree.path_nodes(index) * proto::Hash::kSize,
                  "a path has its nodes");
    bool whole = true;
    if (const std::uint8_t damage = in.byte(); damage % 4 == 1) {
      leaf.octets[in.below(proto::Hash::kSize)] ^= 0x80;
    } else if (damage % 4 == 2 && !path.empty()) {
      char& byte = path[in.below(path.size())];
      byte = static_cast<char>(byte ^ 1);
      whole = false;
    } else if (damage % 4 == 3) {
      path.resize(in.below(2 * (path.size() + 1)));
      whole = path.size() == tree.path_nodes(index) * proto::Hash::kSize;
    }
    // Above what is proven already a path is not looked at: a damaged one may do.
    const bool proven = verifier.verify(leaf, claimed, path);
    fuzz::require(!proven || (claimed < count && leaf == leaves[claimed]),
                  "nothing is proven but what is genuine");
    fuzz::require(proven || claimed != index || leaf != leaves[index] || !whole,
                  "what is genuine is proven");
  }
  return 0;
}
