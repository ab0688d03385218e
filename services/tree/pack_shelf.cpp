#include "services/tree/pack_shelf.hpp"

#include "services/tree/entry_ops.hpp"

#include <unordered_set>

namespace mirrorbus::tree {

void tidy_shelf(int packs, const Index& index, std::uint64_t max_bytes) {
  const auto numbers = index.version_numbers();
  std::unordered_set<Bytes> kept;
  std::uint64_t bytes = 0;
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    const auto version = index.version(*number);
    if (!version || !version->pack) continue;
    bytes += version->pack->size;
    // A chain with a hole leads nowhere: what is older than the first that does not fit goes, too.
    if (bytes > max_bytes) break;
    kept.insert(to_hex(version->pack->sha256));
  }
  const EntryOps ops;
  for (const Bytes& name : ops.list(packs)) {
    Hash hash;
    if (proto::from_hex(name, hash) && !kept.contains(name)) ops.unlink(packs, name);
  }
}

}  // namespace mirrorbus::tree
