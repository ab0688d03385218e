#include "services/tree/hard_links.hpp"

#include "services/tree/index_db.hpp"

#include <algorithm>

namespace mirrorbus::tree {

void HardLinks::set(ByteView path, const Inode& inode) {
  const Bytes key = key_of(path);
  db_.sql("INSERT OR REPLACE INTO links VALUES (?, ?, ?)")
      .bind_blob(1, key)
      .bind(2, inode.first)
      .bind(3, inode.second)
      .run();
}

void HardLinks::clear(ByteView path) {
  const Bytes key = key_of(path);
  db_.sql("DELETE FROM links WHERE key = ?").bind_blob(1, key).run();
}

void HardLinks::clear_tree(ByteView path) {
  const Bytes key = key_of(path);
  const KeyRange range = below(key);
  db_.sql("DELETE FROM links WHERE key >= ?2 AND key < ?3 OR key = ?1")
      .bind_blob(1, key)
      .bind_blob(2, range.first)
      .bind_blob(3, range.last)
      .run();
}

void HardLinks::move(std::uint64_t from_dev, std::uint64_t to_dev) {
  db_.sql("UPDATE links SET dev = ? WHERE dev = ?").bind(1, to_dev).bind(2, from_dev).run();
}

bool HardLinks::any() const { return has_row(db_.sql("SELECT 1 FROM links LIMIT 1")); }

std::vector<Bytes> HardLinks::paths_of(const Inode& inode) const {
  return all_rows(db_.sql("SELECT key FROM links WHERE dev = ? AND ino = ? ORDER BY key")
                      .bind(1, inode.first)
                      .bind(2, inode.second),
                  path_of_row);
}

std::vector<HardLinks::Inode> HardLinks::inodes_in(ByteView path) const {
  const Bytes key = key_of(path);
  const KeyRange range = below(key);
  auto& s = db_.sql("SELECT dev, ino FROM links WHERE key = ?1 OR key >= ?2 AND key < ?3");
  s.bind_blob(1, key).bind_blob(2, range.first).bind_blob(3, range.last);
  return all_rows(s, [](const base::Statement& row) { return Inode(row.u64(0), row.u64(1)); });
}

proto::LinksTable HardLinks::table() const {
  auto& s = db_.sql("SELECT dev, ino, key FROM links ORDER BY dev, ino, key");
  proto::LinksTable table;
  Inode inode;
  std::vector<Bytes> group;
  const auto close = [&] {
    if (group.size() >= 2) table.groups.push_back(std::move(group));
    group.clear();
  };
  while (s.step()) {
    const Inode next{s.u64(0), s.u64(1)};
    if (next != inode) close();
    inode = next;
    group.push_back(path_of(s.blob(2)));
  }
  close();
  s.reset();
  std::ranges::sort(table.groups, proto::PathLess{}, [](const auto& g) -> const Bytes& {
    return g.front();
  });
  return table;
}

}  // namespace mirrorbus::tree
