#include "services/tree/entry_ops.hpp"

#include "bus/base/fd.hpp"

#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Bytes;

namespace {

// Linux 6.6; older kernels answer ENOSYS whatever the number was meant for.
#ifndef SYS_fchmodat2
constexpr long kFchmodat2 = 452;
#else
constexpr long kFchmodat2 = SYS_fchmodat2;
#endif

constexpr std::size_t kOpenLevels = 64;  // descriptors remove_all may hold at a time

int at_flags(const Bytes& name) {
  return name.empty() ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
}

[[noreturn]] void fail(const char* call, const Bytes& name) {
  throw_errno(std::string(call) + " " + (name.empty() ? "." : name));
}

// What fchmodat2 does, for kernels without it: an O_PATH descriptor pins the inode, so that the
// symlink check and the change speak of the same thing.
int chmod_pinned(int dir, const Bytes& name, mode_t mode) {
  base::Fd pinned;
  int fd = dir;
  if (!name.empty()) {
    pinned = base::Fd(::openat(dir, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!pinned) return -1;
    fd = pinned.get();
  }
  struct stat st;
  if (::fstat(fd, &st) != 0) return -1;
  if (S_ISLNK(st.st_mode)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return ::chmod(("/proc/self/fd/" + std::to_string(fd)).c_str(), mode);
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

base::Fd open_below(int dir, const Bytes& name) {
  return base::Fd(::openat(dir, name.empty() ? "." : name.c_str(),
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

}  // namespace

std::optional<struct stat> EntryOps::look(int dir, const Bytes& name) const {
  struct stat st;
  if (::fstatat(dir, name.c_str(), &st, at_flags(name)) == 0) return st;
  if (errno == ENOENT) return {};
  fail("stat", name);
}

Bytes EntryOps::read_link(int dir, const Bytes& name) const {
  Bytes target(4096, '\0');
  const ssize_t n = ::readlinkat(dir, name.c_str(), target.data(), target.size());
  if (n < 0) fail("readlink", name);
  target.resize(static_cast<std::size_t>(n));
  return target;
}

std::vector<Bytes> EntryOps::list(int dir) const {
  // A descriptor of its own: readdir's position belongs to the open file.
  base::Fd own = open_below(dir, {});
  if (!own) throw_errno("open directory to list it");
  std::unique_ptr<DIR, CloseDir> stream(::fdopendir(own.get()));
  if (!stream) throw_errno("list directory");
  own.release();
  std::vector<Bytes> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) throw_errno("list directory");
  return names;
}

void EntryOps::set_owner(int dir, const Bytes& name, uid_t uid, gid_t gid) const {
  mutating("chown", name);
  if (::fchownat(dir, name.c_str(), uid, gid, at_flags(name)) != 0) fail("chown", name);
}

void EntryOps::set_mode(int dir, const Bytes& name, mode_t mode) const {
  mutating("chmod", name);
  if (::syscall(kFchmodat2, dir, name.c_str(), mode, at_flags(name)) == 0) return;
  // EPERM, too: what sandboxes answer to numbers they do not know.
  if (errno != ENOSYS && errno != EPERM) fail("chmod", name);
  if (name.empty() && ::fchmod(dir, mode) == 0) return;  // not of an O_PATH descriptor
  if (chmod_pinned(dir, name, mode) != 0) fail("chmod", name);
}

void EntryOps::set_mtime(int dir, const Bytes& name, std::int64_t s, std::uint32_t ns) const {
  mutating("utimens", name);
  timespec times[2] = {};
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_sec = s;
  times[1].tv_nsec = ns;
  if (::utimensat(dir, name.c_str(), times, at_flags(name)) != 0) fail("utimens", name);
}

void EntryOps::make_directory(int dir, const Bytes& name, mode_t mode) const {
  if (!make_new_directory(dir, name, mode)) fail("mkdir", name);
}

bool EntryOps::make_new_directory(int dir, const Bytes& name, mode_t mode) const {
  mutating("mkdir", name);
  if (::mkdirat(dir, name.c_str(), mode) == 0) return true;
  if (errno != EEXIST) fail("mkdir", name);
  return false;
}

void EntryOps::make_symlink(const Bytes& target, int dir, const Bytes& name) const {
  mutating("symlink", name);
  if (::symlinkat(target.c_str(), dir, name.c_str()) != 0) fail("symlink", name);
}

void EntryOps::make_node(int dir, const Bytes& name, mode_t type_and_mode, dev_t device) const {
  mutating("mknod", name);
  if (::mknodat(dir, name.c_str(), type_and_mode, device) != 0) fail("mknod", name);
}

void EntryOps::link(int from, const Bytes& name, int to, const Bytes& new_name) const {
  mutating("link", new_name);
  if (::linkat(from, name.c_str(), to, new_name.c_str(), 0) != 0) fail("link", new_name);
}

void EntryOps::replace(int from, const Bytes& name, int to, const Bytes& new_name) const {
  move(from, name, to, new_name);
  // Two links to one inode: both names are still there. Most often there is nothing to remove, and
  // a wrong guess costs one failed call.
  if (::unlinkat(from, name.c_str(), 0) != 0 && errno != ENOENT) fail("unlink", name);
}

void EntryOps::move(int from, const Bytes& name, int to, const Bytes& new_name) const {
  mutating("rename", new_name);
  if (::renameat(from, name.c_str(), to, new_name.c_str()) != 0) fail("rename", new_name);
}

void EntryOps::move_new(int from, const Bytes& name, int to, const Bytes& new_name) const {
  mutating("rename", new_name);
  if (::renameat2(from, name.c_str(), to, new_name.c_str(), RENAME_NOREPLACE) == 0) return;
  fail("rename", new_name);
}

void EntryOps::exchange(int from, const Bytes& name, int to, const Bytes& new_name) const {
  mutating("exchange", new_name);
  if (::renameat2(from, name.c_str(), to, new_name.c_str(), RENAME_EXCHANGE) != 0)
    fail("exchange", new_name);
}

bool EntryOps::unlink(int dir, const Bytes& name) const {
  mutating("unlink", name);
  if (::unlinkat(dir, name.c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  fail("unlink", name);
}

bool EntryOps::remove_directory(int dir, const Bytes& name) const {
  mutating("rmdir", name);
  if (::unlinkat(dir, name.c_str(), AT_REMOVEDIR) == 0) return true;
  if (errno == ENOENT) return false;
  fail("rmdir", name);
}

bool EntryOps::remove_all(int dir, const Bytes& name) const {
  const auto top = look(dir, name);
  if (!top) return false;
  if (!S_ISDIR(top->st_mode)) return unlink(dir, name);

  // Depth first with a bounded number of descriptors: what lies deeper is moved up beside the top
  // and comes next, so that no depth a local user builds is too deep.
  struct Level {
    base::Fd fd;
    Bytes name;  // in the level above
    std::vector<Bytes> rest;
  };
  std::vector<Level> levels;
  const auto enter = [this, &top](int parent, const Bytes& child) {
    base::Fd fd = open_below(parent, child);
    struct stat st;
    if (fd && ::fstat(fd.get(), &st) != 0) fail("stat", child);
    if (fd && st.st_dev != top->st_dev) {
      errno = EXDEV;
      fail("remove", child);
    }
    if (!fd || (::geteuid() != 0 && (st.st_mode & S_IRWXU) != S_IRWXU)) {
      if (!fd && errno != EACCES) fail("open", child);
      set_mode(parent, child, S_IRWXU);
      if (!fd) fd = open_below(parent, child);
      if (!fd) fail("open", child);
    }
    std::vector<Bytes> names = list(fd.get());
    return Level{std::move(fd), child, std::move(names)};
  };
  std::size_t moved_up = 0;
  levels.push_back(enter(dir, name));
  while (!levels.empty()) {
    Level& level = levels.back();
    if (level.rest.empty()) {
      const Bytes done = std::move(level.name);
      levels.pop_back();
      remove_directory(levels.empty() ? dir : levels.back().fd.get(), done);
      continue;
    }
    const Bytes child = std::move(level.rest.back());
    level.rest.pop_back();
    mutating("unlink", child);
    if (::unlinkat(level.fd.get(), child.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM) fail("unlink", child);
    if (const auto st = look(level.fd.get(), child); !st || !S_ISDIR(st->st_mode)) {
      errno = EPERM;
      fail("unlink", child);
    }
    if (levels.size() < kOpenLevels) {
      levels.push_back(enter(level.fd.get(), child));
    } else {
      const Bytes up = ".mirrorbus-deep-" + std::to_string(moved_up++);
      if (::geteuid() != 0) set_mode(level.fd.get(), child, S_IRWXU);  // to change its ".."
      replace(level.fd.get(), child, levels.front().fd.get(), up);
      levels.front().rest.push_back(up);
    }
  }
  return true;
}

}  // namespace mirrorbus::tree
