#include "services/tree/mirror_place.hpp"

#include "proto/tree_path.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Entry;
using Trust = LiveTree::Trust;

namespace {

const Bytes kFirstName = "first";

bool is_mount_point(const std::string& path) {
  struct statx st;
  return ::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, 0, &st) == 0 &&
         (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

std::optional<std::string> MirrorPlace::find(bool adopt, bool in_this_boot) {
  if (settings_.snapshot) return find_newest();
  if (Snapshots::any(index_)) return settings_.path + " shows versions that share their files";
  if (settings_.by_link())
    if (auto why = link().unfit(adopt)) return why;
  const std::string path = settings_.root();
  const bool known = index_.root().has_value();
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) {
    if (errno != ENOENT) throw_errno("stat " + path);
    if (known && !adopt)
      return path + " has vanished: mount it again, or accept to make it anew";
    make_first(in_this_boot);
    return {};
  }
  base::Fd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open tree " + path);
  const auto identity = RootIdentity::of(fd.get());
  if (known) return find_known(identity, adopt);
  if (const auto made = state_.first_root(); made && made->same(identity)) {
    found_at(path, Trust::Nothing);  // moved, but the commit did not come about
    return {};
  }
  RootDir root(path);
  std::vector<Bytes> names = ops_.list(root.fd());
  std::erase(names, proto::kWorkFolderName);
  if (!names.empty() && !adopt)
    return path +
           " is not empty and nothing is known of it: accept (or set adopt) to overwrite it, or "
           "choose another path";
  const bool work_inside = ops_.look(root.fd(), Bytes(proto::kWorkFolderName)).has_value();
  if (!names.empty() || work_inside || S_ISLNK(st.st_mode) || is_mount_point(path))
    found_at(path, Trust::Contents);
  else
    make_first(in_this_boot);
  return {};
}

std::optional<std::string> MirrorPlace::find_newest() {
  const auto newest = snapshots().newest();
  const std::string path = newest ? snapshots().path_of(newest->name) : "";
  base::Fd fd(newest ? ::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1);
  const auto expected = state_.root();
  if (!fd || !expected || !expected->same(RootIdentity::of(fd.get())))
    return "the version committed here is not where it was put: " + path;
  found_at(path, state_.applying() ? Trust::Nothing : Trust::Index);
  return {};
}

std::optional<std::string> MirrorPlace::find_new(bool adopt, bool in_this_boot,
                                                 const Hash& tree_hash) {
  Snapshots snapshots = this->snapshots();
  if (auto why = link().unfit(adopt)) return why;
  const bool first = !snapshots.newest();
  const auto begun = snapshots.begin(tree_hash);
  // What was finished towards another version has that one's contents.
  const Trust left = begun == Snapshots::Begun::SameTarget && in_this_boot ? Trust::OwnWrites
                                                                           : Trust::Nothing;
  const bool fresh = begun == Snapshots::Begun::Fresh;
  found_at(snapshots.new_path(), fresh && !first ? Trust::Index : left);
  found_->is_new = true;
  found_->fresh = fresh;
  return {};
}

std::optional<std::string> MirrorPlace::find_known(const RootIdentity& identity, bool adopt) {
  if (const auto expected = state_.root(); expected && expected->same(identity)) {
    found_at(settings_.root(), state_.applying() ? Trust::Nothing : Trust::Index);
    return {};
  }
  if (!adopt)
    return settings_.root() +
           " is not the directory that was mirrored into: mount that one, or accept to take over "
           "this one";
  found_at(settings_.root(), Trust::Contents);
  return {};
}

void MirrorPlace::found_at(const std::string& path, Trust trust) {
  RootDir root(path);
  const auto st = ops_.look(root.fd(), {});
  Entry entry;
  if (!st || !describe(*st, entry)) throw_errno("stat " + path);
  const auto known = index_.root();
  const bool as_known = known && EntryStat::of(*st).same_but_device(known->stat);
  if (known) entry.content = known->entry.content;
  if (as_known) entry = known->entry;
  found_.emplace(
      Found{std::move(root), trust, entry, known ? known->stat : EntryStat{}, !as_known});
}

void MirrorPlace::make_first(bool in_this_boot) {
  if (!ops_.look(work_, kFirstName)) ops_.make_directory(work_, kFirstName, 0700);
  found_at(settings_.work + "/" + kFirstName, in_this_boot ? Trust::OwnWrites : Trust::Nothing);
  found_->first = true;
  state_.set_first_root(RootIdentity::of(found_->root.fd()));
}

void MirrorPlace::look_again() {
  const auto st = ops_.look(found_->root.fd(), {});
  if (!st || !describe(*st, found_->entry)) throw_errno("stat the tree's root");
  found_->known_stat = {};
  found_->root.forget({});
}

// Should the commit not come about after all, the state's first root tells the next run that this
// directory is ours.
void MirrorPlace::move_first(std::uint32_t mode) {
  // A plain user can only move a directory that he may write to.
  const int root = found_->root.fd();
  const bool closed = ::geteuid() != 0 && (mode & S_IWUSR) == 0;
  if (closed) ops_.set_mode(root, {}, mode | S_IWUSR);
  const std::string path = settings_.root();
  ops_.mutating("rename", path);
  if (::renameat(work_, kFirstName.c_str(), AT_FDCWD, path.c_str()) != 0)
    throw_errno("rename the finished tree to " + path);
  if (closed) ops_.set_mode(root, {}, mode);
  const auto slash = path.rfind('/');
  const std::string holder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  base::Fd dir(::open(holder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || ::fsync(dir.get()) != 0) throw_errno("fsync " + holder);
}

}  // namespace mirrorbus::tree
