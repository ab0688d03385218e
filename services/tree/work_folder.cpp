#include "services/tree/work_folder.hpp"

#include "proto/tree_path.hpp"

#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using base::throw_errno;

namespace {

constexpr int kOpenDir = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

// The folder itself, made if need be; nothing, with errno, if that is not possible.
Fd open_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return {};
  return Fd(::open(path.c_str(), kOpenDir | O_NOFOLLOW));
}

// The kernel compares the mounts before it looks for the file, so nothing in the tree is touched:
// a real file renamed in would move the root's mtime and so be a change to the tree.
bool on_mount_of(int folder, int tree) {
  constexpr const char* kNothing = ".mirrorbus-trial-of-a-rename";
  if (::renameat(folder, kNothing, tree, kNothing) == 0) return true;
  return errno == ENOENT;
}

// Whether `folder`, made if need be, belongs to the tree at `real`: the first that asks gets it.
bool claim(const std::string& folder, const std::string& real) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return true;  // taking it says why not
  const std::string note = folder + "/tree";
  const Fd made(::open(note.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  if (made) return ::write(made.get(), real.data(), real.size()) == static_cast<ssize_t>(real.size());
  if (errno != EEXIST) return true;
  const Fd there(::open(note.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  std::string owner(PATH_MAX + 1, '\0');
  const ssize_t size = there ? ::read(there.get(), owner.data(), owner.size()) : -1;
  return size >= 0 && real == std::string_view(owner.data(), static_cast<std::size_t>(size));
}

}  // namespace

WorkFolder::WorkFolder(const std::string& tree_path, const std::string& tree_name,
                       const std::string& configured, Mount need) {
  const bool link = need == Mount::Link;
  const std::filesystem::path given(tree_path);
  const std::string opened = link ? given.parent_path().string() : tree_path;
  const Fd tree(::open(opened.c_str(), kOpenDir));
  if (!tree) throw_errno("opening the tree " + opened);
  const std::string real = link ? (std::filesystem::canonical(opened) / given.filename()).string()
                                : std::filesystem::canonical(tree_path).string();
  const std::string inside = real + "/" + std::string(proto::kWorkFolderName);

  std::string why;
  const auto take = [&](const std::string& path) {
    Fd dir = open_folder(path);
    if (!dir) {
      why = path + ": " + std::generic_category().message(errno);
      return false;
    }
    same_mount_ = on_mount_of(dir.get(), tree.get());
    if (!same_mount_ && !(need != Mount::Same && !configured.empty())) {
      why = path + " is on another mount than the tree";
      ::rmdir(path.c_str());  // ours and empty if it was made just now
      return false;
    }
    path_ = path;
    dir_ = std::move(dir);
    return true;
  };

  if (!configured.empty()) {
    if (!take(configured))
      throw std::runtime_error("work folder " + why + ": choose a folder on the mount of " +
                               tree_path);
    inside_ = std::filesystem::canonical(configured) == inside;
  } else {
    const std::string parent = std::filesystem::path(real).parent_path();
    std::string beside = (parent == "/" ? "" : parent) + "/.mirrorbus-" + tree_name;
    // An origin and a mirror of it may lie side by side: the second adds its directory's name.
    if (real != "/" && !claim(beside, real))
      beside += "-" + std::filesystem::path(real).filename().string();
    if (real == "/" || !take(beside)) {
      if (link)
        throw std::runtime_error("no place to work beside " + tree_path + " (" + why +
                                 "): set `work` to a folder that this user may write to");
      if (real == "/") why = "the tree has no parent";
      warning_ = "working inside the tree in " + inside + ", because " + why +
                 ": set `work` to a folder on the tree's mount";
      inside_ = true;
      if (!take(inside))
        throw std::runtime_error("no place to work for " + tree_path + " (" + why +
                                 "): set `work` to a folder on the tree's mount that this user "
                                 "may write to");
    }
  }

  struct stat st;
  if (::fstat(dir_.get(), &st) != 0) throw_errno("looking at " + path_);
  if (st.st_uid != ::geteuid())
    throw std::runtime_error("work folder " + path_ + " belongs to another user");
  const mode_t mode = link ? 0711 : 0700;
  if ((st.st_mode & 07777) != mode && ::fchmod(dir_.get(), mode) != 0)
    throw_errno("setting the mode of " + path_);
  const auto locked = [&](int access) {
    lock_ = Fd(::openat(dir_.get(), "lock", O_CREAT | access | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock_) throw_errno("opening " + path_ + "/lock");
    return ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0;
  };
  // A file that is open for writing keeps the disk from being remounted read-only. NFS locks no
  // other.
  if (!locked(O_RDONLY) && !(errno == EBADF && locked(O_RDWR))) {
    if (errno != EWOULDBLOCK) throw_errno("locking " + path_);
    throw std::runtime_error("work folder " + path_ + " is in use by another process");
  }
}

std::string WorkFolder::subfolder(const std::string& name) const {
  if (::mkdirat(dir_.get(), name.c_str(), 0700) != 0 && errno != EEXIST)
    throw_errno("making " + path_ + "/" + name);
  return path_ + "/" + name;
}

}  // namespace mirrorbus::tree
