#include "test/support/random_tree.hpp"

#include "bus/base/fd.hpp"
#include "test/support/xattrs.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirrorbus::test {

namespace fs = std::filesystem;

namespace {

unsigned mode_of(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) base::throw_errno("lstat " + path);
  return st.st_mode;
}

void must(int result, const std::string& what) {
  if (result != 0) base::throw_errno(what);
}

}  // namespace

RandomTree::RandomTree(std::string path, std::uint64_t seed)
    : top_(std::move(path)), random_(seed), root_(::geteuid() == 0) {}

void RandomTree::note(const std::string& what, const std::string& path) {
  log_.push_back(what + " " + path.substr(std::min(path.size(), top_.size() + 1)));
}

const std::string& RandomTree::pick(const Paths& paths) {
  return paths[static_cast<std::size_t>(number(static_cast<int>(paths.size())))];
}

RandomTree::Paths RandomTree::find(const std::function<bool(unsigned)>& wanted, bool with_root) {
  Paths paths;
  if (with_root) paths.push_back(top_);
  Paths rest{top_};
  while (!rest.empty()) {
    const std::string dir = rest.back();
    rest.pop_back();
    for (const auto& each : fs::directory_iterator(dir)) {
      const unsigned mode = mode_of(each.path().string());
      if (wanted(mode)) paths.push_back(each.path().string());
      if (S_ISDIR(mode)) rest.push_back(each.path().string());
    }
  }
  std::ranges::sort(paths);
  return paths;
}

std::string RandomTree::new_name() {
  const std::string id = std::to_string(names_++);
  switch (number(24)) {
    case 0: return id + std::string(255 - id.size(), 'l');
    case 1: return id + "\xff\xfe\x80";
    case 2: return id + " with\nodd\tthings'\"\\";
    case 3: return "-" + id;
    case 4: return ".~" + id;
    case 5: return "..." + id;
    default: return "n" + id;
  }
}

std::string RandomTree::new_path() {
  std::string dir = pick(directories());
  for (int tries = 0; dir.size() > 1200 && tries < 20; ++tries) dir = pick(directories());
  return (dir.size() > 1200 ? top_ : dir) + "/" + new_name();
}

std::string RandomTree::content() {
  switch (number(10)) {
    case 0: return "";
    case 1:  // equal contents
    case 2: return "the same as " + std::to_string(number(4));
    case 3: {
      std::string large(static_cast<std::size_t>(50'000 + number(250'000)), '\0');
      for (char& c : large) c = static_cast<char>(random_());
      return large;
    }
    default:
      return "content " + std::to_string(random_()) +
             std::string(static_cast<std::size_t>(number(3000)), 'x');
  }
}

void RandomTree::write(const std::string& path) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  if (!(out << content() << std::flush)) throw std::runtime_error("cannot write " + path);
}

void RandomTree::in_parent(const std::string& path, const std::function<void()>& work) {
  const std::string dir = path.substr(0, path.rfind('/'));
  const unsigned mode = mode_of(dir);
  if (!root_) must(::chmod(dir.c_str(), (mode & 07777) | 0700), "chmod " + dir);
  work();
  if (!root_) must(::chmod(dir.c_str(), mode & 07777), "chmod " + dir);
}

void RandomTree::dress(const std::string& path) {
  const unsigned type = mode_of(path) & S_IFMT;
  if (root_ && number(3) == 0)
    must(::lchown(path.c_str(), static_cast<uid_t>(number(3) * 1000),
                  static_cast<gid_t>(number(3) * 7)),
         "chown " + path);
  if (type != S_IFLNK && number(2) == 0) {
    static constexpr unsigned kModes[] = {0644, 0755,  0600,  0444,  0555,
                                          0000, 04755, 02755, 01777, 0711};
    unsigned mode = kModes[number(10)];
    if (!root_) mode |= type == S_IFDIR ? 0500 : 0400;
    must(::chmod(path.c_str(), mode), "chmod " + path);
  }
  if (number(4) == 0) mark(path);
  if (number(2) == 0) {
    static constexpr std::int64_t kTimes[] = {
        -2'000'000'000, -1, 0, 1, 1'000'000'000, 2'147'483'648, 4'294'967'296, 9'000'000'000};
    timespec times[2] = {};
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_sec = kTimes[number(8)];
    times[1].tv_nsec = number(1'000'000'000);
    must(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), "utimens " + path);
  }
}

// Other extended attributes and ACLs than it had.
void RandomTree::mark(const std::string& path) {
  const unsigned mode = mode_of(path), type = mode & S_IFMT;
  const bool user = type == S_IFREG || type == S_IFDIR;
  if (!root_ && (!user || (mode & 0600) != 0600)) return;
  for (const auto& each : xattrs_of(path))
    if (number(2) == 0) remove_xattr(path, each.name);
  static constexpr const char* kNames[] = {"user.a", "user.comment", "user.\xff"};
  if (user && number(2) == 0)
    set_xattr(path, kNames[number(3)],
              std::string(static_cast<std::size_t>(number(3) * 100), 'v') + std::to_string(number(9)));
  const auto bits = [this] { return static_cast<unsigned>(number(8)); };
  if (type != S_IFLNK && number(3) == 0)
    set_xattr(path, kAccessAcl, acl(7, bits() * 100, bits(), bits(), bits(), bits() & 5));
  if (type == S_IFDIR && number(4) == 0)
    set_xattr(path, kDefaultAcl, acl(7, 1000, bits(), bits(), bits(), 5));
  if (root_ && number(4) == 0) set_xattr(path, "trusted.mark", std::to_string(number(3)));
  if (root_ && type == S_IFREG && number(4) == 0)
    set_xattr(path, "security.capability",
              std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
}

void RandomTree::add() {
  const std::string path = new_path();
  const auto dress_it = [&] { dress(path); };
  in_parent(path, [&] {
    switch (number(root_ ? 17 : 16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        note("directory", path);
        must(::mkdir(path.c_str(), 0755), "mkdir");
        break;
      case 4:
      case 5: {
        static constexpr const char* kTargets[] = {"..",      "n1", "/etc/passwd", "../../../../x",
                                                   "missing", "."};
        const char* target = kTargets[number(6)];
        note(std::string("symlink to ") + target, path);
        must(::symlink(target, path.c_str()), "symlink");
        break;
      }
      case 6:
        note("fifo", path);
        must(::mkfifo(path.c_str(), 0600), "mkfifo");
        break;
      case 7:
        note("socket", path);
        must(::mknod(path.c_str(), S_IFSOCK | 0600, 0), "mknod");
        break;
      case 8:
      case 9: {
        const auto old = find([](unsigned m) { return !S_ISDIR(m); });
        if (old.empty()) {
          write(path);
          break;
        }
        const std::string from = pick(old);
        note("link to " + from.substr(top_.size()), path);
        must(::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), 0), "link");
        return;
      }
      case 16:
        note("device", path);
        must(::mknod(
                 path.c_str(), (number(2) ? S_IFCHR : S_IFBLK) | 0600,
                 makedev(static_cast<unsigned>(number(200)), static_cast<unsigned>(number(300)))),
             "mknod");
        break;
      default: note("file", path); write(path);
    }
    dress_it();
  });
}

void RandomTree::remove(const std::string& path) {
  if (!root_ && S_ISDIR(mode_of(path))) {
    must(::chmod(path.c_str(), 0700), "chmod");
    for (const auto& each : fs::directory_iterator(path)) remove(each.path().string());
  }
  fs::remove_all(path);
}

void RandomTree::grow(int entries) {
  for (int i = 0; i < entries; ++i) add();
  if (number(2)) dress(top_);
}

void RandomTree::mutate(int changes) {
  for (int i = 0; i < changes; ++i) {
    if (number(5) == 0)
      add();
    else
      change();
  }
}

void RandomTree::change() {
  const Paths all = anything();
  if (all.empty()) return add();
  const std::string path = pick(all);
  const unsigned mode = mode_of(path);
  const auto with_parent = [&](const std::function<void()>& work) { in_parent(path, work); };
  switch (number(13)) {
    case 0:
      note("remove", path);
      with_parent([&] { remove(path); });
      return;
    case 1: {  // move, files and directories
      const std::string to = new_path();
      if (to.starts_with(path + "/")) return;
      note("move to " + to.substr(top_.size()) + ":", path);
      with_parent([&] {
        // A directory's own ".." changes with it.
        if (!root_ && S_ISDIR(mode)) must(::chmod(path.c_str(), (mode & 07777) | 0700), "chmod");
        in_parent(to, [&] { must(::rename(path.c_str(), to.c_str()), "rename"); });
        if (!root_ && S_ISDIR(mode)) must(::chmod(to.c_str(), mode & 07777), "chmod");
      });
      return;
    }
    case 2: {  // over something else
      const std::string to = pick(all);
      if (to == path || to.starts_with(path + "/") || path.starts_with(to + "/")) return;
      note("move over " + to.substr(top_.size()) + ":", path);
      with_parent([&] {
        if (!root_ && S_ISDIR(mode)) must(::chmod(path.c_str(), (mode & 07777) | 0700), "chmod");
        in_parent(to, [&] {
          remove(to);
          must(::rename(path.c_str(), to.c_str()), "rename");
        });
        if (!root_ && S_ISDIR(mode)) must(::chmod(to.c_str(), mode & 07777), "chmod");
      });
      return;
    }
    case 3: {  // another type in its place
      note("flip", path);
      with_parent([&] {
        remove(path);
        switch (number(3)) {
          case 0: write(path); break;
          case 1: must(::symlink("somewhere", path.c_str()), "symlink"); break;
          default: must(::mkdir(path.c_str(), 0755), "mkdir"); write(path + "/" + new_name());
        }
        dress(path);
      });
      return;
    }
    case 4:  // break a link, or just another inode with the same content
      if (!S_ISREG(mode)) return;
      note("break", path);
      with_parent([&] {
        const std::string copy = path.substr(0, path.rfind('/')) + "/.copy";
        fs::copy_file(path, copy);
        must(::rename(copy.c_str(), path.c_str()), "rename");
        dress(path);
      });
      return;
    case 5: {  // a link between two that were not
      const Paths others = find([](unsigned m) { return !S_ISDIR(m); });
      if (S_ISDIR(mode) || others.empty()) return;
      const std::string from = pick(others);
      if (from == path) return;
      note("link over it " + from.substr(top_.size()) + ":", path);
      with_parent([&] {
        fs::remove(path);
        if (fs::exists(fs::symlink_status(from)))
          must(::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), 0), "link");
      });
      return;
    }
    case 6:  // in place, links and all
      if (!S_ISREG(mode)) return;
      note("write", path);
      must(::chmod(path.c_str(), 0600), "chmod");
      write(path);
      dress(path);
      return;
    case 7: {  // copy: the same content in another inode
      if (!S_ISREG(mode)) return;
      const std::string to = new_path();
      note("copy to " + to.substr(top_.size()) + ":", path);
      in_parent(to, [&] { fs::copy_file(path, to); });
      return;
    }
    case 8: {  // swap two
      const Paths some = files();
      if (some.size() < 2) return;
      const std::string a = pick(some), b = pick(some);
      note("swap with " + a.substr(top_.size()) + ":", b);
      in_parent(a, [&] {
        in_parent(b, [&] {
          must(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE), "swap");
        });
      });
      return;
    }
    case 9:
      note("chmod -R", path);
      for (const std::string& each : all)
        if (each == path || each.starts_with(path + "/")) {
          if (!S_ISLNK(mode_of(each)))
            must(::chmod(each.c_str(), S_ISDIR(mode_of(each)) ? 0755 : 0640), "chmod");
        }
      return;
    case 10: {
      note("touch all", path);
      for (const std::string& each : all) {
        timespec times[2] = {};
        times[0].tv_nsec = UTIME_OMIT;
        times[1].tv_sec = 1'700'000'000 + number(1000);
        times[1].tv_nsec = number(1'000'000'000);
        must(::utimensat(AT_FDCWD, each.c_str(), times, AT_SYMLINK_NOFOLLOW), "utimens");
      }
      return;
    }
    case 11:  // empty a directory
      if (!S_ISDIR(mode)) return;
      note("empty", path);
      if (!root_) must(::chmod(path.c_str(), 0700), "chmod");
      for (const auto& each : fs::directory_iterator(path)) remove(each.path().string());
      return;
    default: note("dress", path); dress(path);
  }
}

}  // namespace mirrorbus::test
