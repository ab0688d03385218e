#include "services/tree/snapshot_check.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/entry_stat.hpp"
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
  each(
      [&](const File& file) {
        bytes += file.now ? static_cast<std::uint64_t>(file.now->st_size) : 0;
      },
      [](Bytes&&) {});
  return bytes;
}

void SnapshotCheck::run(KeptReport& into, const std::function<void(std::uint64_t)>& read,
                        const Mend& mend) {
  const auto wrong = [&](const File& file, std::string what) {
    if (mend && mend(file)) return;
    into.add({Rot::Kind::File, file.now ? file.entry.content : Hash{},
              file.top + "/" + file.path, std::move(what)});
  };
  const std::string missing = "is missing of an older version";
  each(
      [&](const File& file) {
        if (!file.now) return wrong(file, missing);
        const auto found = read_file(file.dir, file.entry.name, [&](ByteView bytes) {
          into.bytes += bytes.size();
          read(bytes.size());
        });
        ++into.files;
        if (found && found->content == file.entry.content) return;
        wrong(file, found ? "an older version's file has another content"
                          : "an older version's file cannot be read: " +
                                std::generic_category().message(errno));
      },
      [&](Bytes&& path) {
        into.add({Rot::Kind::File, {}, std::move(path), missing});
      });
}

void SnapshotCheck::each(const Visit& visit, const Missing& missing) {
  const auto all = snapshots_.all();
  for (std::size_t at = 0; at + 1 < all.size(); ++at) {
    const auto version = index_.version(all[at].number);
    // Of one that is only still shown nobody knows any more what it was.
    if (version && version->record.tree_hash == all[at].tree_hash)
      each_of(at, all[at], *version, all[at + 1], visit, missing);
  }
}

void SnapshotCheck::each_of(std::size_t at, const Snapshot& snapshot, const StoredVersion& version,
                            const Snapshot& next, const Visit& visit, const Missing& missing) {
  const std::string top = snapshots_.path_of(snapshot.name);
  const MetadataPolicy policy(settings_.metadata, {});
  const EntryOps ops;
  RootDir root(top), newer(snapshots_.path_of(next.name));
  std::vector<std::pair<Bytes, Hash>> rest{{{}, version.root.entry.content}};
  while (!rest.empty()) {
    const auto [path, id] = std::move(rest.back());
    rest.pop_back();
    const auto node = index_.blob(id);
    if (!node) continue;
    const auto dir = open_dir(root, path);
    if (!dir) {
      if (!version.incomplete) missing(top + "/" + path);
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
      const auto now = ops.look(dir->get(), entry.name);
      if (!now && version.incomplete) continue;
      const auto other = now && beside ? ops.look(beside->get(), entry.name) : std::nullopt;
      if (other && same_inode(*other, *now)) continue;
      visit({at, version, top, full, dir->get(), entry, now});
    }
  }
}

}  // namespace mirrorbus::tree
