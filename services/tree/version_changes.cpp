#include "services/tree/version_changes.hpp"

#include <stdexcept>

namespace mirrorbus::tree {
namespace {

// As the update event has them: what a mirror knows of a version that it went to from another one
// than the one before.
std::optional<ChangePage> listed(const StoredVersion& version, std::uint64_t skip,
                                 std::size_t limit) {
  const auto update = proto::decode_update(version.body);
  if (!update || update->changes_more) return std::nullopt;
  ChangePage page;
  for (const proto::Change& change : update->changes) {
    if (skip > 0) {
      --skip;
    } else if (page.changes.size() < limit) {
      page.changes.push_back(change);
    } else {
      page.more = true;
    }
  }
  return page;
}

}  // namespace

TreeSide stored_side(const Index& index, const StoredVersion& version) {
  return {version.root.entry, [&index](const Bytes& path, const Hash& id) {
            auto node = index.blob(id);
            if (!node) throw std::runtime_error("directory '" + path + "' is no longer held");
            return std::move(*node);
          }};
}

std::optional<ChangePage> version_changes(const Index& index, std::uint64_t number,
                                          std::uint64_t skip, std::size_t limit) {
  const auto version = number > 0 ? index.version(number) : index.newest();
  if (!version) return std::nullopt;
  number = version->record.number;
  const auto before = number > 1 ? index.version(number - 1) : std::nullopt;
  if (!before && !version->record.parent.is_zero()) return listed(*version, skip, limit);
  ChangePage page;
  diff_trees(before ? std::optional(stored_side(index, *before)) : std::nullopt, stored_side(index, *version),
             [&](const TreeChange& c) {
               if (skip > 0) {
                 --skip;
                 return true;
               }
               page.more = page.changes.size() == limit;
               if (!page.more) page.changes.push_back(c.change);
               return !page.more;
             });
  return page;
}

}  // namespace mirrorbus::tree
