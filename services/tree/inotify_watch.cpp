#include "services/tree/inotify_watch.hpp"

#include <algorithm>
#include <memory>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

namespace mirrorbus::tree {
namespace {

constexpr std::uint32_t kMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY |
                                IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_ONLYDIR;

proto::Bytes below(const proto::Bytes& path, const char* name) {
  return path.empty() ? proto::Bytes(name) : path + "/" + name;
}

std::vector<proto::Bytes> subdirectories(const std::string& directory) {
  std::vector<proto::Bytes> names;
  const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir(
      ::opendir(directory.c_str()));
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat st;
      is_directory = ::fstatat(dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                     S_ISDIR(st.st_mode);
    }
    if (is_directory) names.emplace_back(name);
  }
  return names;
}

}  // namespace

InotifyWatch::InotifyWatch(std::string root, SkipDirectory skip)
    : root_(std::move(root)),
      skip_(std::move(skip)),
      fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
  if (!fd_) base::throw_errno("inotify");
  if (!add("")) base::throw_errno("watching " + root_);
  for (const proto::Bytes& name : subdirectories(root_)) add_tree(name);
}

bool InotifyWatch::add(const proto::Bytes& path) {
  const int watch = ::inotify_add_watch(fd_.get(), full(path).c_str(), kMask);
  if (watch < 0) {
    // Gone again, or no directory any more: its parent's events tell. Else a limit.
    if (errno != ENOENT && errno != ENOTDIR) ++unwatched_;
    return false;
  }
  // The same inode under a new name: the old one no longer counts.
  if (const auto it = by_watch_.find(watch); it != by_watch_.end() && it->second != path)
    by_path_.erase(it->second);
  by_watch_[watch] = path;
  by_path_[path] = watch;
  return true;
}

// Parents before children: whatever is made below a watched directory is told of, and what was made
// before the watch stood is found by the listing that follows it.
void InotifyWatch::add_tree(const proto::Bytes& top) {
  std::vector<proto::Bytes> stack{top};
  while (!stack.empty()) {
    const proto::Bytes path = std::move(stack.back());
    stack.pop_back();
    if (skip_ && skip_(path)) continue;
    if (!add(path)) continue;
    for (const proto::Bytes& name : subdirectories(full(path)))
      stack.push_back(below(path, name.c_str()));
  }
}

void InotifyWatch::drop_tree(const proto::Bytes& top) {
  for (auto it = by_path_.lower_bound(top); it != by_path_.end();) {
    const bool inside = it->first == top || it->first.starts_with(top + "/");
    // Names like "top-x" sort between "top" and "top/".
    if (!inside && !it->first.starts_with(top)) break;
    if (!inside) {
      ++it;
      continue;
    }
    ::inotify_rm_watch(fd_.get(), it->second);
    by_watch_.erase(it->second);
    it = by_path_.erase(it);
  }
}

Dirty InotifyWatch::drain() {
  std::set<proto::Bytes> directories, trees;
  Dirty dirty;
  alignas(inotify_event) char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::read(fd_.get(), buffer, sizeof buffer);
    if (size <= 0) {
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno != EAGAIN) base::throw_errno("reading inotify events of " + root_);
      break;
    }
    for (const char* at = buffer; at < buffer + size;) {
      const auto& event = *reinterpret_cast<const inotify_event*>(at);
      at += sizeof event + event.len;
      if (event.mask & (IN_Q_OVERFLOW | IN_UNMOUNT)) {
        dirty.all = true;
        continue;
      }
      const auto known = by_watch_.find(event.wd);
      if (known == by_watch_.end()) continue;  // of a watch dropped meanwhile
      const proto::Bytes path = known->second;
      if (event.mask & IN_IGNORED) {
        by_path_.erase(path);
        by_watch_.erase(event.wd);
        continue;
      }
      if (event.mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (path.empty()) dirty.all = true;
        continue;  // else its parent tells
      }
      directories.insert(path);
      if (!(event.mask & IN_ISDIR) || event.len == 0) continue;
      const proto::Bytes child = below(path, event.name);
      if (event.mask & IN_MOVED_FROM) drop_tree(child);
      if (event.mask & (IN_CREATE | IN_MOVED_TO)) {
        add_tree(child);
        trees.insert(child);
      }
    }
  }
  if (dirty.all) {
    // Directories may have been made unseen: watch whatever is not watched yet.
    for (const proto::Bytes& name : subdirectories(root_)) add_tree(name);
    return dirty;
  }
  dirty.directories.assign(directories.begin(), directories.end());
  dirty.trees.assign(trees.begin(), trees.end());
  return dirty;
}

}  // namespace mirrorbus::tree
