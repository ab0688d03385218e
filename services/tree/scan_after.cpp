// What a scan does after it has been everywhere: the parts that need more than one directory.
#include "services/tree/fs_clock.hpp"
#include "services/tree/scan_run.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

// A directory that was away when the one above it was looked at, and there again when it was looked at
// itself: without an entry above it is no part of the tree.
void Scanner::Run::drop_orphans() {
  const auto has_entry = [this](const Bytes& path) {
    const auto row = index_.latest(proto::parent_path(path));
    const auto node = row ? proto::decode_node(row->node) : proto::Node();
    const Entry* entry = node ? node->find(proto::last_name(path)) : nullptr;
    return entry && entry->type == EntryType::Directory;
  };
  for (const Bytes& top : gone_)
    for (auto it = looked_at_.lower_bound(top);
         it != looked_at_.end() && (it->first == top || it->first.starts_with(top + "/"));) {
      if (has_entry(it->first)) {
        ++it;
        continue;
      }
      index_.stage_removal(it->first);
      look_again(Bytes(proto::parent_path(top)));
      it = looked_at_.erase(it);
    }
}

// The metadata of directories looked at, in the entries their parents have for them.
void Scanner::Run::refresh_parents() {
  std::map<Bytes, std::vector<const Bytes*>, proto::PathLess> parents;
  for (const auto& [path, st] : looked_at_) {
    if (path.empty()) continue;
    const ByteView above = proto::parent_path(path);
    if (!looked_at_.contains(above)) parents[Bytes(above)].push_back(&path);
  }
  for (const auto& [above, paths] : parents) {
    auto row = index_.latest(above);
    if (!row) continue;
    auto node = proto::decode_node(row->node);
    if (!node) throw std::runtime_error("the index holds a damaged node: " + above);
    bool node_changed = false, stats_changed = false;
    base::Fd dir;
    for (const Bytes* path : paths) {
      const ByteView name = proto::last_name(*path);
      const auto it = std::ranges::lower_bound(node->entries, name, {},
                                               [](const Entry& e) -> ByteView { return e.name; });
      if (it == node->entries.end() || it->name != name || it->type != EntryType::Directory)
        continue;
      const struct stat& st = looked_at_.find(*path)->second;
      EntryStat& known = row->stats[static_cast<std::size_t>(it - node->entries.begin())];
      const EntryStat now = EntryStat::of(st);
      const bool as_before = known.same(now) && !(known.flags & EntryStat::kXattrsAgain);
      stats_changed |= !(known == now);
      known = now;
      Entry fresh = *it;
      describe(st, fresh);
      if (xattrs_ && !as_before) {
        if (!dir) dir = open_directory(above);
        if (!dir || !read_xattrs_of(dir.get(), it->name, above, fresh) || !before(st.st_ctim, now_))
          known.flags |= EntryStat::kXattrsAgain;
      }
      node_changed |= !(fresh == *it);
      *it = std::move(fresh);
    }
    if (node_changed) {
      row->node = proto::encode_node(*node);
      index_.stage(*row);
    } else if (stats_changed) {
      index_.put_stats(above, row->stats);
    }
  }
}

// Directories that could not be read, or were not there any more when they were to be: as they were,
// or not there if they are new.
void Scanner::Run::settle_failures() {
  for (const auto& [path, kind] : failed_) {
    if (kind != ScanProblem::Kind::Vanished) ++report_.kept;
    if (path.empty()) continue;
    const Bytes above(proto::parent_path(path));
    const ByteView name = proto::last_name(path);
    auto row = index_.latest(above);
    if (!row) continue;
    auto node = proto::decode_node(row->node);
    if (!node) throw std::runtime_error("the index holds a damaged node: " + above);
    const auto it = std::ranges::find(node->entries, name, &Entry::name);
    if (it == node->entries.end() || it->type != EntryType::Directory) continue;
    const auto at = it - node->entries.begin();
    if (index_.latest(path)) {
      // With the metadata it had, too: a directory nobody may read says little about itself.
      if (const auto committed = index_.directory(above))
        if (const auto was = proto::decode_node(committed->node))
          if (const Entry* entry = was->find(name); entry && entry->type == EntryType::Directory)
            *it = *entry;
      row->stats[static_cast<std::size_t>(at)].flags |= EntryStat::kUnreadable;
    } else {
      node->entries.erase(it);
      row->stats.erase(row->stats.begin() + at);
    }
    row->node = proto::encode_node(*node);
    index_.stage(*row);
  }
}

// An inode that changed, or has a new name, shows under its other names too, where nobody was told
// of it. True if there was more to look at.
bool Scanner::Run::find_linked() {
  std::set<Bytes> found;
  std::set<Inode> missing;
  const auto add = [&](ByteView directory) {
    if (!looked_at_.contains(directory)) found.insert(Bytes(directory));
  };
  for (const auto& [inode, count] : changed_links_) {
    const auto names = index_.hard_links().paths_of(inode);
    for (const Bytes& name : names) add(proto::parent_path(name));
    if (names.size() < count) missing.insert(inode);
  }
  changed_links_.clear();
  if (!missing.empty()) {
    const auto search = [&](const DirectoryRow& row) {
      for (const EntryStat& stat : row.stats)
        if (missing.contains({stat.dev, stat.ino})) add(row.path);
      return true;
    };
    index_.each_directory("", search);
    index_.each_pending(Index::Order::Forward,
                        [&](const PendingRow& p) { return p.removed || search(p.row); });
  }
  std::vector<Target> targets;
  for (const Bytes& path : found) targets.push_back({path, false});
  if (targets.empty()) return false;
  walk(std::move(targets));
  return true;
}

}  // namespace mirrorbus::tree
