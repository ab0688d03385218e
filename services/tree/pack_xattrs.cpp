#include "services/tree/pack_xattrs.hpp"

#include "services/tree/index_xattrs.hpp"

#include <unordered_set>

namespace mirrorbus::tree {

namespace {
// What is beyond is fetched by hash.
constexpr std::size_t kRoom = 256 * 1024;
}  // namespace

std::vector<Bytes> new_xattr_sets(const Index& index, const proto::Entry& root) {
  std::vector<Bytes> sets;
  if (index.xattr_sets().count() == 0) return sets;
  std::unordered_set<Hash> met;
  std::size_t size = 0;
  const auto take = [&](const std::optional<Hash>& id) {
    if (!id || !met.insert(*id).second) return;
    auto set = index.xattr_sets().find(*id);
    if (!set || size + set->size() > kRoom) return;
    size += set->size();
    sets.push_back(std::move(*set));
  };
  const auto known = index.root();
  if (!known || known->entry.xattrs != root.xattrs) take(root.xattrs);
  index.each_pending(Index::Order::Forward, [&](const PendingRow& p) {
    if (p.removed) return true;
    const auto old = index.directory(p.row.path);
    proto::NodeReader reader(p.row.node), olds(old ? ByteView(old->node) : ByteView());
    proto::Entry entry, was;
    bool more = old && olds.next(was);
    while (reader.next(entry)) {
      if (!entry.xattrs) continue;
      while (more && was.name < entry.name) more = olds.next(was);
      if (!more || was.name != entry.name || was.xattrs != entry.xattrs) take(entry.xattrs);
    }
    return size < kRoom;
  });
  return sets;
}

}  // namespace mirrorbus::tree
