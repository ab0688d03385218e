#include "services/tree/kept_check.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/entry_ops.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/root_dir.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

base::Fd open_folder(const std::string& path) {
  base::Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno != ENOENT) base::throw_errno("open " + path);
  return fd;
}

std::string cannot_be_read(int error) {
  return "cannot be read: " + std::generic_category().message(error);
}

}  // namespace

KeptCheck::KeptCheck(const Index& index, std::string work, const WorkControl& control,
                     const Progress& before)
    : index_(index), work_(std::move(work)), control_(control), progress_(before) {}

KeptReport KeptCheck::mirror() {
  progress_.bytes_total += add_up("packs");
  check_index();
  check_packs();
  return std::move(report_);
}

KeptReport KeptCheck::origin(const std::string& path) {
  const proto::TreeCounts counts = index_.counts();
  progress_.bytes_total += add_up("packs") + add_up("objects") + counts.bytes;
  progress_.bytes_total += add_up(Bytes("objects/") + ObjectNames::kSecond);
  progress_.files_total += counts.files;
  check_index();
  check_packs();
  check_store();
  check_tree(path);
  tell_contents();
  return std::move(report_);
}

// ---- files

std::uint64_t KeptCheck::add_up(const Bytes& folder) const {
  const EntryOps ops;
  std::uint64_t bytes = 0;
  const auto add = [&](int dir, const Bytes& name) {
    const auto st = ops.look(dir, name);
    if (st && S_ISREG(st->st_mode)) bytes += static_cast<std::uint64_t>(st->st_size);
    return st && S_ISDIR(st->st_mode);
  };
  const base::Fd top = open_folder(work_ + "/" + folder);
  if (!top) return 0;
  for (const Bytes& name : ops.list(top.get())) {
    control_.check();
    if (!add(top.get(), name) || name.size() != 2) continue;
    const base::Fd shard = open_folder(work_ + "/" + folder + "/" + name);
    for (const Bytes& object : ops.list(shard.get())) add(shard.get(), object);
  }
  return bytes;
}

void KeptCheck::did(std::uint64_t bytes, bool file) {
  progress_.bytes += bytes;
  progress_.files += file ? 1 : 0;
  control_.report(progress_);
}

KeptCheck::Read KeptCheck::read(int dir, const Bytes& name) {
  control_.check();
  Read found;
  const auto file = open_file(dir, name);
  if (file) {
    found.links = file->st.st_nlink;
    found.dev = file->st.st_dev;
    found.ino = file->st.st_ino;
  }
  const auto content = read_file(dir, name, [&](ByteView bytes) {
    control_.check();
    report_.bytes += bytes.size();
    did(bytes.size(), false);
  });
  if (content)
    found.hash = content->content;
  else if (errno != ENOENT && errno != EBUSY)  // gone, or changed while it was read
    found.error = errno;
  return found;
}

void KeptCheck::check_packs() {
  const base::Fd packs = open_folder(work_ + "/packs");
  if (!packs) return;
  for (const Bytes& name : EntryOps().list(packs.get())) {
    Hash hash;
    if (!proto::from_hex(name, hash)) continue;
    const Read found = read(packs.get(), name);
    if (!found.hash && found.error == 0) continue;
    ++report_.packs;
    if (found.hash != hash)
      report_.add({Rot::Kind::Pack, hash, work_ + "/packs/" + name,
                  "the pack " + (found.hash ? kNotItsHash : cannot_be_read(found.error))});
  }
}

// ---- an origin's

void KeptCheck::check_store() {
  objects_folder_ = open_folder(work_ + "/objects");
  if (!objects_folder_) return;
  object_names_.emplace(objects_folder_.get());
  check_objects(work_ + "/objects");
  if (object_names_->any_second())
    check_objects(work_ + "/objects/" + ObjectNames::kSecond);
}

void KeptCheck::check_objects(const std::string& path) {
  const EntryOps ops;
  const base::Fd folders = open_folder(path);
  if (!folders) return;
  for (const Bytes& folder : ops.list(folders.get())) {
    if (folder.size() != 2) continue;
    const base::Fd shard = open_folder(path + "/" + folder);
    if (!shard) continue;
    for (const Bytes& name : ops.list(shard.get())) {
      Hash hash;
      if (!proto::from_hex(name, hash)) continue;
      const Read found = read(shard.get(), name);
      if (!found.hash && found.error == 0) continue;
      ++report_.contents;
      if (found.hash == hash) continue;
      Object object{found.hash ? kNotItsHash : cannot_be_read(found.error),
                    path + "/" + folder + "/" + name, found.links, found.dev, found.ino, {}};
      if (objects_.size() < KeptReport::kNamed)
        objects_.emplace(hash, std::move(object));
      else
        ++report_.count;
    }
  }
}

bool KeptCheck::is_object(const Hash& hash, const EntryStat& stat) const {
  if ((stat.flags & EntryStat::kHeld) == 0 || !object_names_) return false;
  struct stat inode {};
  inode.st_dev = stat.dev;
  inode.st_ino = stat.ino;
  return object_names_->is(hash, inode);
}

void KeptCheck::check_tree(const std::string& path) {
  std::optional<RootDir> root;
  try {
    root.emplace(path);
  } catch (const std::system_error&) {
    return;  // there is none now: the look at the tree says so
  }
  index_.each_directory({}, [&](const DirectoryRow& row) {
    try {
      check_files(row, root->open(row.path).get());
    } catch (const std::system_error&) {
      // It has gone, or is closed to us: its next look is not ours.
    }
    return true;
  });
}

// Whatever is not as it was when it was hashed has been changed, and is in the next version.
void KeptCheck::check_files(const DirectoryRow& row, int dir) {
  constexpr std::uint32_t kUnknown = EntryStat::kUncertain | EntryStat::kUnreadable;
  const EntryOps ops;
  proto::NodeReader reader(row.node);
  Entry entry;
  for (std::size_t at = 0; reader.next(entry) && at < row.stats.size(); ++at) {
    if (entry.type != EntryType::File) continue;
    const EntryStat& known = row.stats[at];
    const auto as_known = [&] {
      const auto st = ops.look(dir, entry.name);
      return st && EntryStat::of(*st).same(known);
    };
    if ((known.flags & kUnknown) != 0 || !as_known()) {
      did(entry.size, true);
      continue;
    }
    const Bytes path = proto::join_path(row.path, entry.name);
    const auto object = objects_.find(entry.content);
    const bool same_inode = object != objects_.end() && object->second.dev == known.dev &&
                            object->second.ino == known.ino;
    if (same_inode) {
      object->second.path = path;
      object->second.all_there_is = true;
      did(entry.size, true);
      continue;
    }
    // One inode with an object that is right.
    if (object == objects_.end() && is_object(entry.content, known)) {
      ++report_.files;
      did(entry.size, true);
      continue;
    }
    const Read found = read(dir, entry.name);
    did(0, true);
    if (!as_known() || (!found.hash && found.error == 0)) continue;
    ++report_.files;
    if (found.hash == entry.content) {
      if (object != objects_.end() && !object->second.all_there_is) object->second.path = path;
      continue;
    }
    if (object != objects_.end()) {
      object->second.path = path;
      object->second.all_there_is = true;
      continue;
    }
    report_.add({Rot::Kind::File, entry.content, path,
                found.hash ? "has rotted: it looks as it did, and has another content"
                           : cannot_be_read(found.error),
                true});
  }
}

// An object that shares its inode with something that does not look as it did was written in place:
// the next look at the tree drops it.
void KeptCheck::tell_contents() {
  for (auto& [hash, object] : objects_) {
    if (object.all_there_is)
      report_.add({Rot::Kind::File, hash, std::move(object.path),
                  "has rotted, and so has what is kept of its content, which " + object.what,
                  true});
    else if (!object.path.empty())
      report_.add({Rot::Kind::Content, hash, std::move(object.path),
                  "what is kept of its content " + object.what, true});
    else if (object.links <= 1)
      report_.add({Rot::Kind::Content, hash, std::move(object.at),
                  "the content of an older version " + object.what});
  }
}

}  // namespace mirrorbus::tree
