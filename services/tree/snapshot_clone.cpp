#include "services/tree/snapshot_clone.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/sparse.hpp"

#include <stdexcept>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using proto::join_path;

void SnapshotClone::run() {
  p_.index.each_directory({}, [this](const DirectoryRow& row) {
    clone(row);
    p_.control.check();
    return true;
  });
  // A directory's times move until all is in it.
  if (!fresh_) return;
  for (const Bytes& path : parents_) look_at_directories(path);
  p_.live.look_everywhere();
}

bool SnapshotClone::is_absent(const Bytes& path) const {
  return absent_.contains(path) ||
         (!path.empty() && absent_.contains(Bytes(proto::parent_path(path))));
}

void SnapshotClone::clone(const DirectoryRow& row) {
  if (is_absent(row.path)) {
    absent_.insert(row.path);
    return;
  }
  std::optional<RootDir::Dir> from, to;
  try {
    to = p_.to.open(row.path);
    from = p_.from.open(row.path);
  } catch (const std::system_error& error) {
    // Moved away or closed to us: its files are not there to be shared.
    const int why = error.code().value();
    if (why != ENOENT && why != ENOTDIR && why != ELOOP && why != EACCES && why != EXDEV) throw;
    if (!to) {
      absent_.insert(row.path);
      return;
    }
  }
  DirectoryRow now{row.path, row.id, row.node, row.stats};
  proto::NodeReader reader(row.node);
  Entry entry;
  bool has_directories = false;
  for (std::size_t at = 0; reader.next(entry) && at < now.stats.size(); ++at) {
    EntryStat& stat = now.stats[at];
    const Bytes path = join_path(row.path, entry.name);
    const bool known = OldDirectory::known(stat);
    if (entry.type == EntryType::Directory) {
      if (!known) {
        absent_.insert(path);
      } else {
        has_directories = true;
        if (fresh_ || !p_.ops.look(to->get(), entry.name))
          p_.ops.make_directory(to->get(), entry.name, 0700);
      }
    } else if (known) {
      stat = from ? share(path, from->get(), to->get(), entry, stat) : EntryStat{};
    }
  }
  if (!fresh_) return;
  p_.live.now_is(now);
  if (has_directories) parents_.push_back(row.path);
}

EntryStat SnapshotClone::share(const Bytes& path, int from, int to, const Entry& entry,
                               const EntryStat& was) {
  if (++files_ % 1024 == 0) p_.control.check();
  try {
    p_.ops.link(from, entry.name, to, entry.name);
  } catch (const std::system_error& error) {
    const int why = error.code().value();
    if (why == EEXIST && !fresh_) return {};
    if (why == ENOENT) {
      p_.edits.add(path, LocalEdit::Kind::Removed);
      return {};
    }
    // Too many names already, not ours to link, or no links at all.
    if (why != EMLINK && why != EPERM && why != EOPNOTSUPP && why != EXDEV && why != EACCES) throw;
    const auto copied = copy(from, to, entry);
    EntryStat now = copied ? EntryStat::of(*copied) : EntryStat{};
    if (copied) now.flags = was.flags;
    return now;
  }
  const auto st = p_.ops.look(to, entry.name);
  EntryStat now = st ? EntryStat::of(*st) : EntryStat{};
  now.flags = was.flags | EntryStat::kShared;
  if (st && now.same_but_device(was)) return now;
  p_.edits.add(path, LocalEdit::Kind::Changed);
  p_.ops.unlink(to, entry.name);
  return {};
}

// What does not come out as it should is left out.
std::optional<struct stat> SnapshotClone::copy(int from, int to, const Entry& entry) const {
  if (entry.type != EntryType::File) return {};
  const auto open = open_file(from, entry.name);
  if (!open) return {};
  p_.ops.mutating("create", entry.name);
  base::Fd made(::openat(to, entry.name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC,
                         0600));
  if (!made) base::throw_errno("create " + entry.name);
  bool good = ::ioctl(made.get(), FICLONE, open->fd.get()) == 0;
  if (!good) {
    std::uint64_t at = 0;
    const auto read = read_file(from, entry.name, [&](ByteView bytes) {
      append_sparse(made.get(), bytes, at, "a copy");
      at += bytes.size();
    });
    good = read && read->content == entry.content;
  } else {
    const auto read = read_file(to, entry.name);
    good = read && read->content == entry.content;
  }
  if (good) {
    p_.policy.need(entry);
    p_.policy.bring(p_.ops, to, entry.name, *p_.ops.look(to, entry.name), entry);
    return p_.ops.look(to, entry.name);
  }
  p_.ops.unlink(to, entry.name);
  return {};
}

// They have none of the metadata they shall have: that is the plan's.
void SnapshotClone::look_at_directories(ByteView path) {
  auto directory = p_.live.again(path);
  const RootDir::Dir dir = p_.to.open(path);
  for (std::size_t at = 0; at < directory->node.entries.size(); ++at) {
    Entry& entry = directory->node.entries[at];
    EntryStat& stat = directory->stats[at];
    if (entry.type != EntryType::Directory || !OldDirectory::known(stat)) continue;
    const auto st = p_.ops.look(dir.get(), entry.name);
    if (!st || !describe(*st, entry)) throw std::runtime_error("a new directory has vanished");
    entry.xattrs.reset();
    stat = EntryStat::of(*st);
  }
  p_.live.now_is({Bytes(path), {}, proto::encode_node(directory->node), directory->stats});
}

}  // namespace mirrorbus::tree
