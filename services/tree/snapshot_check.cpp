#include "services/tree/snapshot_check.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/root_dir.hpp"

#include <fmt/format.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

std::optional<RootDir::Dir> open_dir(RootDir& root, ByteView path) {
  try {
    return root.open(path);
  } catch (const std::system_error&) {
    return {};
  }
}

}  // namespace

std::uint64_t SnapshotCheck::measure() {
  std::uint64_t bytes = 0;
  each([&](Bytes&&, const File& file) { bytes += file.size; }, [](Bytes&&) {});
  return bytes;
}

void SnapshotCheck::run(KeptReport& into, const std::function<void(std::uint64_t)>& read) {
  const auto rotten = [&into](const Hash& hash, Bytes&& path, std::string what) {
    into.add({Rot::Kind::File, hash, std::move(path), std::move(what)});
  };
  each(
      [&](Bytes&& path, const File& file) {
        const auto found = read_file(file.dir, file.entry.name, [&](ByteView bytes) {
          into.bytes += bytes.size();
          read(bytes.size());
        });
        ++into.files;
        if (found && found->content == file.entry.content) return;
        rotten(file.entry.content, std::move(path),
               found ? "an older version's file has another content"
                     : "an older version's file cannot be read: " +
                           std::generic_category().message(errno));
      },
      [&](Bytes&& path) { rotten({}, std::move(path), "is missing of an older version"); });
}

void SnapshotCheck::each(const Visit& visit, const Missing& missing) {
  const auto all = snapshots_.all();
  for (std::size_t at = 0; at + 1 < all.size(); ++at) {
    const auto version = index_.version(all[at].number);
    // Of one that is only still shown nobody knows any more what it was.
    if (version && version->record.tree_hash == all[at].tree_hash)
      each_of(all[at], *version, all[at + 1], visit, missing);
  }
}

void SnapshotCheck::each_of(const Snapshot& snapshot, const StoredVersion& version,
                            const Snapshot& next, const Visit& visit, const Missing& missing) {
  const std::string top = snapshots_.path_of(snapshot.name) + "/";
  const MetadataPolicy policy(settings_.metadata, {});
  const EntryOps ops;
  RootDir root(snapshots_.path_of(snapshot.name)), newer(snapshots_.path_of(next.name));
  const auto is_missing = [&](const Bytes& path) {
    if (!version.incomplete) missing(top + path);
  };
  std::vector<std::pair<Bytes, Hash>> rest{{{}, version.root.entry.content}};
  while (!rest.empty()) {
    const auto [path, id] = std::move(rest.back());
    rest.pop_back();
    const auto node = index_.blob(id);
    if (!node) continue;
    const auto dir = open_dir(root, path);
    if (!dir) {
      is_missing(path);
      continue;
    }
    const auto beside = open_dir(newer, path);
    const auto place = policy.place(path);
    proto::NodeReader reader(*node);
    Entry entry;
    while (reader.next(entry)) {
      if (!policy.wanted(place, entry)) continue;
      Bytes full = proto::join_path(path, entry.name);
      if (entry.type == EntryType::Directory) rest.emplace_back(std::move(full), entry.content);
      if (entry.type != EntryType::File) continue;
      const auto st = ops.look(dir->get(), entry.name);
      if (!st) {
        is_missing(full);
        continue;
      }
      const auto other = beside ? ops.look(beside->get(), entry.name) : std::nullopt;
      if (other && other->st_ino == st->st_ino && other->st_dev == st->st_dev) continue;
      visit(top + full, {dir->get(), entry, static_cast<std::uint64_t>(st->st_size)});
    }
  }
}

}  // namespace mirrorbus::tree
