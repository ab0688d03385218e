// A tree in memory, for tests of what works on nodes: edit it, stage it into an index, commit it.
#pragma once

#include "proto/sha256.hpp"
#include "services/tree/index.hpp"
#include "services/tree/tree_view.hpp"

#include <map>
#include <stdexcept>

namespace mirrorbus::test {

struct ModelTree {
  // Without child ids and contents' hashes; names are the paths' last ones.
  std::map<proto::Bytes, proto::Entry, proto::PathLess> entries;
  std::map<proto::Hash, proto::Bytes> contents;  // of all versions
  proto::LinksTable links;
  proto::OwnersTable owners;
  proto::Entry root;

  ModelTree() {
    root.type = proto::EntryType::Directory;
    root.mode = 0755;
  }

  proto::Entry& add(const proto::Bytes& path, proto::EntryType type) {
    for (auto up = proto::parent_path(path); !up.empty(); up = proto::parent_path(up))
      if (const auto it = entries.find(up);
          it == entries.end() || it->second.type != proto::EntryType::Directory)
        add(proto::Bytes(up), proto::EntryType::Directory);
    if (type != proto::EntryType::Directory) remove(path);
    proto::Entry& e = entries[path];
    e = {};
    e.name = proto::last_name(path);
    e.type = type;
    e.mode = type == proto::EntryType::Directory ? 0755 : 0644;
    e.mtime_s = 1'700'000'000;
    return e;
  }
  proto::Entry& directory(const proto::Bytes& path) {
    return add(path, proto::EntryType::Directory);
  }
  proto::Entry& file(const proto::Bytes& path, const proto::Bytes& content) {
    proto::Entry& e = add(path, proto::EntryType::File);
    e.size = content.size();
    e.content = proto::sha256(content);
    contents[e.content] = content;
    return e;
  }
  proto::Entry& symlink(const proto::Bytes& path, const proto::Bytes& target) {
    proto::Entry& e = add(path, proto::EntryType::Symlink);
    e.mode = 0777;
    e.target = target;
    return e;
  }
  void remove(const proto::Bytes& path) {
    std::erase_if(entries, [&](const auto& e) { return proto::within(path, e.first); });
  }
  void move(const proto::Bytes& from, const proto::Bytes& to) {
    auto old = entries;
    remove(from);
    remove(to);  // replaced, not merged into: a file of one may be a directory of the other
    for (auto& [path, entry] : old) {
      if (!proto::within(from, path)) continue;
      const proto::Bytes there = to + path.substr(from.size());
      entries[there] = entry;
      entries[there].name = proto::last_name(there);
    }
  }

  std::map<proto::Bytes, tree::DirectoryRow, proto::PathLess> rows() const {
    std::map<proto::Bytes, std::vector<proto::Entry>, proto::PathLess> nodes;
    nodes[""];
    for (const auto& [path, entry] : entries) {
      if (entry.type == proto::EntryType::Directory) nodes[path];
      auto& list = nodes[proto::Bytes(proto::parent_path(path))];
      list.push_back(entry);
      if (entry.type == proto::EntryType::Directory) list.back().content = proto::sha256("later");
    }
    std::map<proto::Bytes, tree::DirectoryRow, proto::PathLess> rows;
    for (auto& [path, list] : nodes) {
      tree::DirectoryRow& row = rows[path];
      row.path = path;
      row.stats.resize(list.size());
      row.node = proto::encode_node({std::move(list)});
    }
    return rows;
  }

  // Stages what differs from the committed tree and seals it.
  tree::RootRow stage(tree::Index& index) const {
    tree::Index::Batch batch(index);
    const auto now = rows();
    std::vector<proto::Bytes> gone;
    index.each_directory("", [&](const tree::DirectoryRow& row) {
      if (!now.contains(row.path)) gone.push_back(row.path);
      return true;
    });
    for (const auto& path : gone) index.stage_removal(path);
    for (const auto& [path, row] : now) index.stage(row);
    tree::RootRow top;
    top.entry = root;
    top.entry.content = proto::sha256("later");
    index.stage_root(top);
    auto sealed = index.seal_pending();
    if (!sealed) throw std::logic_error("the model is not a tree");
    batch.commit();
    return *sealed;
  }
  proto::TreeRoot tree_root(const tree::RootRow& top) const {
    return {top.entry, proto::sha256(proto::encode_links(links)),
            proto::sha256(proto::encode_owners(owners))};
  }
  // Stages and commits as the next version.
  tree::StoredVersion commit(tree::Index& index) const {
    const auto before = index.newest();
    const auto top = stage(index);
    tree::StoredVersion v;
    v.root = tree_root(top);
    v.record.tree = proto::TreeId::from_bytes("0123456789abcdef");
    v.record.number = before ? before->record.number + 1 : 1;
    v.record.tree_hash = proto::tree_hash(v.root);
    v.record.counts = index.latest_totals().counts;
    index.commit_version(v, proto::encode_links(links), proto::encode_owners(owners));
    return v;
  }
};

// A version of an index, as a receiver of its packs would see it.
inline tree::TreeView view_of(const tree::Index& index, const tree::StoredVersion& version) {
  return {[&index](const proto::Hash& id) { return index.blob(id); }, version.root,
          index.blob(version.root.links).value(), index.blob(version.root.owners).value()};
}

}  // namespace mirrorbus::test
