// KeptCheck: the index against the roots that were signed.
#include "services/tree/kept_check.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "proto/xattr_set.hpp"
#include "services/tree/index_xattrs.hpp"

#include <fmt/format.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

// How often the committed tree is gone through again because a new version came meanwhile.
constexpr int kTries = 5;

}  // namespace

void KeptCheck::check_index() {
  check_committed();
  for (const std::uint64_t number : index_.version_numbers())
    if (const auto version = index_.version(number)) check_version(*version);
  met_.clear();
}

// A commit in between makes half of it the next version: then again.
void KeptCheck::check_committed() {
  for (int tries = 0; tries < kTries; ++tries) {
    const auto before = index_.newest();
    if (!before) return;
    std::vector<Rot> found = rotten_nodes(*before);
    const auto after = index_.newest();
    if (!found.empty() && !(after && after->record == before->record)) continue;
    for (Rot& rot : found) report_.add(std::move(rot));
    return;
  }
}

// Each directory's row, from the signed root down.
std::vector<Rot> KeptCheck::rotten_nodes(const StoredVersion& newest) {
  std::vector<Rot> found;
  std::vector<std::pair<Bytes, Hash>> rest{{{}, newest.root.entry.content}};
  while (!rest.empty()) {
    control_.check();
    const auto [path, id] = std::move(rest.back());
    rest.pop_back();
    std::optional<Bytes> node;
    bool as_signed = false;
    index_.each_node(path, path, [&](const Index::NodeRow& row) {
      as_signed = row.id == id && proto::sha256(row.node) == id;
      node = row.node;
      return false;
    });
    ++report_.nodes;
    if (!as_signed) {
      found.push_back({Rot::Kind::Index, id, path,
                       node ? "index: the directory's node " + kNotItsHash
                            : "index: the directory's node is lost"});
      continue;
    }
    proto::NodeReader reader(*node);
    Entry entry;
    while (reader.next(entry)) {
      check_attributes(entry, path);
      if (entry.type == EntryType::Directory)
        rest.emplace_back(proto::join_path(path, entry.name), entry.content);
    }
  }
  return found;
}

void KeptCheck::check_attributes(const Entry& entry, ByteView path) {
  if (!entry.xattrs || !met_.insert(*entry.xattrs).second) return;
  const auto set = index_.xattr_sets().find(*entry.xattrs);
  if (set && proto::xattr_set_id(*set) == *entry.xattrs) return;
  report_.add({Rot::Kind::Index, *entry.xattrs, proto::join_path(path, entry.name),
          "index: its set of extended attributes " + (set ? kNotItsHash : "is lost")});
}

// What only this version still needs.
void KeptCheck::check_version(const StoredVersion& version) {
  if (proto::tree_hash(version.root) != version.record.tree_hash)
    report_.add({Rot::Kind::Index, version.record.tree_hash, {},
            fmt::format("index: the root of version {} {}", version.record.number, kNotItsHash)});
  check_blob(version, version.record.tree_hash, "root");
  check_blob(version, version.root.links, "links table");
  check_blob(version, version.root.owners, "owners table");
  check_attributes(version.root.entry, {});
  std::vector<Hash> rest{version.root.entry.content};
  while (!rest.empty()) {
    control_.check();
    const Hash id = rest.back();
    rest.pop_back();
    if (!index_.paths_of_node(id).empty() || !check_blob(version, id, "node")) continue;
    ++report_.nodes;
    const auto node = index_.blob(id);
    if (!node) continue;  // forgotten in this moment
    proto::NodeReader reader(*node);
    Entry entry;
    while (reader.next(entry)) {
      check_attributes(entry, {});
      if (entry.type == EntryType::Directory) rest.push_back(entry.content);
    }
  }
}

// False if it is no good, or was met before.
bool KeptCheck::check_blob(const StoredVersion& version, const Hash& id, const char* what) {
  if (!met_.insert(id).second) return false;
  const auto bytes = index_.blob(id);
  if (bytes && proto::sha256(*bytes) == id) return true;
  if (!bytes && !index_.version(version.record.number)) return false;  // forgotten meanwhile
  report_.add({Rot::Kind::Index, id, {},
          fmt::format("index: a {} of version {} {}", what, version.record.number,
                      bytes ? kNotItsHash : "is lost")});
  return false;
}

}  // namespace mirrorbus::tree
