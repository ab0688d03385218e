#include "test/support/packed_origin.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "proto/xattr_set.hpp"
#include "services/tree/index_xattrs.hpp"
#include "services/tree/spool.hpp"

#include <filesystem>
#include <fstream>
#include <set>

#include <sys/mman.h>

namespace mirrorbus::test {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

PackedOrigin::PackedOrigin(const std::string& folder)
    : folder_(folder), index_(folder + "/index", {.durable = false}) {}

tree::TargetVersion PackedOrigin::publish(const TreeSnapshot& snapshot) {
  for (const auto& [hash, bytes] : snapshot.held) held_[hash] = bytes;
  for (const auto& [hash, path] : snapshot.contents) contents_[hash] = path;

  std::set<Bytes> there;
  std::vector<std::pair<Bytes, Hash>> rest{{{}, snapshot.root.entry.content}};
  while (!rest.empty()) {
    const auto [path, id] = rest.back();
    rest.pop_back();
    there.insert(path);
    tree::DirectoryRow row{path, id, snapshot.blobs.at(id), {}};
    proto::NodeReader reader(row.node);
    Entry entry;
    while (reader.next(entry)) {
      row.stats.emplace_back();
      if (entry.type == EntryType::Directory)
        rest.emplace_back(proto::join_path(path, entry.name), entry.content);
    }
    index_.stage(row);
  }
  for (const auto& [id, bytes] : snapshot.blobs)
    if (proto::decode_xattr_set(bytes)) index_.xattr_sets().keep(id, bytes);
  std::vector<Bytes> gone;
  index_.each_directory({}, [&](const tree::DirectoryRow& row) {
    if (!there.contains(row.path)) gone.push_back(row.path);
    return true;
  });
  for (const Bytes& path : gone)
    if (there.contains(Bytes(proto::parent_path(path)))) index_.stage_removal(path);
  index_.stage_root({snapshot.root.entry, {}});
  const auto root = index_.seal_pending();
  if (!root || root->entry.content != snapshot.root.entry.content)
    throw std::runtime_error("the index made another tree of it");

  const auto read = [this](const tree::FileRef& file) -> std::optional<Bytes> {
    if (const auto held = held_.find(file.hash); held != held_.end()) return held->second;
    const auto found = contents_.find(file.hash);
    if (found == contents_.end()) return {};
    std::ifstream in(found->second, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), {});
  };
  const auto open = [&](const tree::FileRef& file) {
    const auto bytes = read(file);
    base::Fd fd(bytes ? ::memfd_create("content", MFD_CLOEXEC) : -1);
    if (fd) tree::write_all_at(fd.get(), *bytes, 0, "a content");
    return fd;
  };
  tree::TargetVersion version = snapshot.version();
  const Bytes links = snapshot.blobs.at(snapshot.root.links);
  const Bytes owners = snapshot.blobs.at(snapshot.root.owners);
  version.update.pack = tree::write_pack({.index = index_,
                                          .root = snapshot.root,
                                          .links = links,
                                          .owners = owners,
                                          .read_base = read,
                                          .read_target = read,
                                          .open_base = open,
                                          .open_target = open,
                                          .maybe_in_base = {},
                                          .sizes = sizes},
                                         folder_, &stats);
  tree::StoredVersion stored;
  stored.record = snapshot.record;
  stored.root = snapshot.root;
  index_.commit_version(stored, links, owners);
  return version;
}

}  // namespace mirrorbus::test
