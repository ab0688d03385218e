#include "services/tree/pack_shelf.hpp"

#include "services/tree/entry_ops.hpp"

#include <unordered_set>

namespace mirrorbus::tree {

void tidy_shelf(int packs, Index& index, const Shelf& shelf) {
  const auto numbers = index.version_numbers();
  if (numbers.size() > shelf.versions)
    index.forget_versions_below(numbers[numbers.size() - shelf.versions]);
  std::unordered_set<Bytes> kept;
  std::uint64_t bytes = 0;
  for (std::size_t back = 0; back < std::min<std::size_t>(numbers.size(), shelf.versions); ++back) {
    const auto version = index.version(numbers[numbers.size() - 1 - back]);
    if (!version || !version->pack) continue;
    bytes += version->pack->size;
    // A chain with a hole leads nowhere: what is older than the first that does not fit goes, too.
    if (bytes > shelf.max_bytes) break;
    kept.insert(to_hex(version->pack->sha256));
  }
  const EntryOps ops;
  for (const Bytes& name : ops.list(packs))
    if (!kept.contains(name)) ops.unlink(packs, name);
}

}  // namespace mirrorbus::tree
