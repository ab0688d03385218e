#include "services/tree/index_seal.hpp"

#include <map>
#include <stdexcept>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

class Seal {
 public:
  explicit Seal(IndexRows& rows) : rows_(rows) {}
  proto::Decoded<RootRow> run();

 private:
  bool close_open_after(const Bytes* path);
  void close(DirectoryRow row, bool was_pending);
  Bytes with_known_ids(const DirectoryRow& row);

  IndexRows& rows_;
  bool whole_ = true;
  // By directory: the ids of its children. Against tree order every child comes before its parent,
  // so the ids still to be written into parents are those of one chain of open directories and
  // their siblings.
  std::map<Bytes, std::map<Bytes, Hash>, proto::PathLess> open_;
  std::optional<Hash> root_id_;
};

Bytes Seal::with_known_ids(const DirectoryRow& row) {
  const auto ids = open_.extract(row.path);
  std::size_t used = 0;
  Bytes node;
  proto::NodeWriter writer(node);
  proto::NodeReader reader(row.node);
  Entry entry;
  while (reader.next(entry)) {
    if (entry.type == EntryType::Directory && ids) {
      if (const auto it = ids.mapped().find(entry.name); it != ids.mapped().end()) {
        entry.content = it->second;
        ++used;
      }
    }
    if (entry.type == EntryType::Directory && entry.content == kUnsealedId) whole_ = false;
    writer.add(entry);
  }
  if (reader.failure()) throw std::runtime_error("the index holds a damaged node: " + row.path);
  if (ids && used != ids.mapped().size()) whole_ = false;
  return node;
}

void Seal::close(DirectoryRow row, bool was_pending) {
  row.node = with_known_ids(row);
  row.id = proto::node_id(row.node);
  const auto old = rows_.committed(row.path);
  if (!old || old->id != row.id) {
    rows_.stage(row);
  } else if (was_pending) {
    rows_.unstage(row.path);
    rows_.put_stats(row.path, row.stats);
  }
  if (row.path.empty())
    root_id_ = row.id;
  else
    open_[Bytes(proto::parent_path(row.path))][Bytes(proto::last_name(row.path))] = row.id;
}

// Directories that wait for ids and come after `path` in tree order have no pending row.
bool Seal::close_open_after(const Bytes* path) {
  while (!open_.empty() && (!path || proto::path_less(*path, open_.rbegin()->first))) {
    auto row = rows_.committed(open_.rbegin()->first);
    if (!row) return whole_ = false;
    close(std::move(*row), false);
  }
  return whole_;
}

proto::Decoded<RootRow> Seal::run() {
  rows_.each_pending(Index::Order::Backward, [&](const PendingRow& p) {
    if (!close_open_after(&p.row.path)) return false;
    if (!p.removed)
      close(p.row, true);
    else if (!rows_.committed(p.row.path))
      rows_.unstage(p.row.path);
    return whole_;
  });
  const auto committed_root = rows_.root();
  auto root = rows_.pending_root();
  if (!root) root = committed_root;
  if (!close_open_after(nullptr) || !root) return proto::refuse(proto::Reject::BadHash);
  if (!root_id_)
    if (const auto top = rows_.committed("")) root_id_ = top->id;
  if (!root_id_) return proto::refuse(proto::Reject::BadHash);
  root->entry.content = *root_id_;
  if (committed_root && committed_root->entry == root->entry) {
    rows_.set_root(*root);
    rows_.unstage_root();
  } else {
    rows_.stage_root(*root);
  }
  return *root;
}

}  // namespace

proto::Decoded<RootRow> seal_pending(IndexRows& rows) { return Seal(rows).run(); }

}  // namespace mirrorbus::tree
