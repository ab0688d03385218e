#include "test/support/tree_snapshot.hpp"

#include "bus/base/fd.hpp"
#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "services/tree/entry_stat.hpp"
#include "test/support/xattrs.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::test {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

namespace {

Bytes slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw std::runtime_error("cannot read " + path);
  Bytes bytes(static_cast<std::size_t>(in.tellg()), '\0');
  in.seekg(0).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

class Scan {
 public:
  Scan(TreeSnapshot& into, std::string top, bool hold)
      : into_(into), top_(std::move(top)), hold_(hold) {}

  void run() {
    struct stat st;
    if (::lstat(top_.c_str(), &st) != 0) base::throw_errno("lstat " + top_);
    Entry& root = into_.root.entry;
    if (!tree::describe(st, root)) throw std::runtime_error("undescribable root");
    root.xattrs = xattrs(top_);
    root.content = directory({});
    proto::LinksTable links;
    for (auto& [inode, paths] : inodes_)
      if (paths.size() > 1) {
        std::ranges::sort(paths, proto::path_less);
        links.groups.push_back(paths);
      }
    std::ranges::sort(links.groups, proto::path_less,
                      [](const std::vector<Bytes>& group) { return ByteView(group.front()); });
    into_.root.links = put(proto::encode_links(links));
    into_.root.owners = put(proto::encode_owners({}));
  }

 private:
  std::optional<Hash> xattrs(const std::string& path) {
    const auto set = xattrs_of(path);
    if (set.empty()) return {};
    return put(proto::encode_xattr_set(set));
  }
  Hash put(Bytes bytes) {
    const Hash id = proto::sha256(bytes);
    into_.blobs.emplace(id, std::move(bytes));
    return id;
  }
  Hash directory(const Bytes& path) {
    const std::string full = path.empty() ? top_ : top_ + "/" + path;
    std::vector<Bytes> names;
    for (const auto& each : std::filesystem::directory_iterator(full))
      names.push_back(each.path().filename().string());
    std::ranges::sort(names);
    proto::Node node;
    for (const Bytes& name : names) {
      Entry entry;
      entry.name = name;
      const std::string at = full + "/" + name;
      struct stat st;
      if (::lstat(at.c_str(), &st) != 0) base::throw_errno("lstat " + at);
      if (!tree::describe(st, entry)) continue;
      entry.xattrs = xattrs(at);
      const Bytes below = proto::join_path(path, name);
      proto::TreeCounts& counts = into_.record.counts;
      ++counts.entries;
      if (entry.type == EntryType::Directory) {
        ++counts.directories;
        entry.content = directory(below);
      } else if (entry.type == EntryType::File) {
        ++counts.files;
        counts.bytes += entry.size;
        Bytes bytes = slurp(at);
        entry.content = proto::sha256(bytes);
        into_.contents.emplace(entry.content, at);
        if (hold_) into_.held.emplace(entry.content, std::move(bytes));
      } else if (entry.type == EntryType::Symlink) {
        ++counts.symlinks;
        entry.target = std::filesystem::read_symlink(at).string();
      }
      if (st.st_nlink > 1 && entry.type != EntryType::Directory)
        inodes_[st.st_ino].push_back(below);
      node.entries.push_back(std::move(entry));
    }
    return put(proto::encode_node(node));
  }

  TreeSnapshot& into_;
  std::string top_;
  bool hold_;
  std::map<ino_t, std::vector<Bytes>> inodes_;
};

}  // namespace

void TreeSnapshot::seal() {
  const Bytes bytes = proto::encode_tree_root(root);
  record.tree_hash = proto::sha256(bytes);
  blobs.emplace(record.tree_hash, bytes);
}

tree::TargetVersion TreeSnapshot::version() const {
  tree::TargetVersion version;
  version.update.record = record;
  version.body = proto::encode_update(version.update);
  version.sealed = "sealed " + std::to_string(record.number);
  return version;
}

TreeSnapshot take_snapshot(const std::string& path, std::uint64_t number,
                           const TreeSnapshot* before, bool hold_contents) {
  TreeSnapshot snapshot;
  Scan(snapshot, path, hold_contents).run();
  snapshot.record.tree.octets.fill(0x77);
  snapshot.record.number = number;
  if (before) snapshot.record.parent = proto::version_hash(before->record);
  snapshot.record.time_ns = number;
  snapshot.seal();
  return snapshot;
}

void SnapshotSource::add(const TreeSnapshot& snapshot) {
  blobs_.insert(snapshot.blobs.begin(), snapshot.blobs.end());
  for (const auto& [hash, path] : snapshot.contents) contents_[hash] = path;
  held_.insert(snapshot.held.begin(), snapshot.held.end());
}

std::optional<Bytes> SnapshotSource::content(const Hash& hash) const {
  if (const auto held = held_.find(hash); held != held_.end()) return held->second;
  const auto found = contents_.find(hash);
  if (found == contents_.end()) return {};
  return slurp(found->second);
}

void SnapshotSource::send(const Hash& hash, ByteView bytes, tree::ContentSink& sink) {
  bytes_ += std::min<std::uint64_t>(bytes.size(), fail_after_bytes);
  if (fail_after_bytes < bytes.size()) {
    sink.begin(hash);
    sink.write(bytes.substr(0, fail_after_bytes));
    fail_after_bytes = UINT64_MAX;
    throw tree::SourceError("snapshot: the connection broke");
  }
  if (fail_after_bytes != UINT64_MAX) fail_after_bytes -= bytes.size();
  sink.begin(hash);
  if (cut.contains(hash)) {
    sink.write(bytes.substr(0, bytes.size() / 2));
    return;
  }
  Bytes changed;
  if (damaged.contains(hash)) {
    changed = bytes;
    changed.front() ^= 1;
    bytes = changed;
  }
  constexpr std::size_t kChunk = 60'000;
  for (std::size_t at = 0; at < bytes.size(); at += kChunk) sink.write(bytes.substr(at, kChunk));
  sink.end();
}

void SnapshotSource::fetch_pack(const tree::Wanted& pack, std::uint64_t offset,
                                tree::ContentSink& sink) {
  const auto bytes = gone.contains(pack.hash) ? std::nullopt : content(pack.hash);
  if (!bytes) return sink.gone(pack.hash, "not held");
  ++packs_sent;
  send(pack.hash, ByteView(*bytes).substr(offset), sink);
}

void SnapshotSource::fetch_nodes(std::span<const Hash> ids, std::uint64_t,
                                 tree::ContentSink& sink) {
  for (const Hash& id : ids) {
    const auto found = blobs_.find(id);
    if (found == blobs_.end()) {
      sink.gone(id, "not held");
    } else {
      ++nodes_sent;
      send(id, found->second, sink);
    }
  }
}

void SnapshotSource::fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) {
  if (before_objects) before_objects();
  for (const tree::Wanted& object : objects) {
    if (silent.contains(object.hash)) continue;
    const auto bytes = gone.contains(object.hash) ? std::nullopt : content(object.hash);
    if (!bytes) {
      sink.gone(object.hash, "not held");
      continue;
    }
    ++objects_sent;
    object_bytes += bytes->size();
    send(object.hash, *bytes, sink);
  }
}

void SnapshotSource::fetch_range(const tree::Wanted& object, std::uint64_t offset,
                                 tree::ContentSink& sink) {
  if (before_objects) before_objects();
  const auto bytes = gone.contains(object.hash) ? std::nullopt : content(object.hash);
  if (!bytes) return sink.gone(object.hash, "not held");
  ++objects_sent;
  object_bytes += bytes->size() - offset;
  send(object.hash, ByteView(*bytes).substr(offset), sink);
}

void SnapshotSource::bad(const Hash& hash, proto::Reject why, const std::string& what) {
  complaints.push_back(to_hex(hash) + " " + what + " (" + std::string(to_string(why)) + ")");
}

}  // namespace mirrorbus::test
