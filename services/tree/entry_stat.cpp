#include "services/tree/entry_stat.hpp"

#include <cstring>
#include <stdexcept>

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace mirrorbus::tree {

EntryStat EntryStat::of(const struct stat& st) {
  EntryStat s;
  s.dev = st.st_dev;
  s.ino = st.st_ino;
  // A directory's size is its filesystem's affair and says nothing about the tree.
  s.size = S_ISDIR(st.st_mode) ? 0 : static_cast<std::uint64_t>(st.st_size);
  s.mtime_s = st.st_mtim.tv_sec;
  s.ctime_s = st.st_ctim.tv_sec;
  s.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  s.ctime_ns = static_cast<std::uint32_t>(st.st_ctim.tv_nsec);
  s.mode = st.st_mode;
  s.uid = st.st_uid;
  s.gid = st.st_gid;
  return s;
}

bool EntryStat::same_but_device(const EntryStat& other) const noexcept {
  const bool ctime_tells = ((flags | other.flags) & kShared) == 0;
  return ino == other.ino && size == other.size && mtime_s == other.mtime_s &&
         mtime_ns == other.mtime_ns &&
         (!ctime_tells || (ctime_s == other.ctime_s && ctime_ns == other.ctime_ns)) &&
         mode == other.mode && uid == other.uid && gid == other.gid;
}

bool EntryStat::same(const EntryStat& other) const noexcept {
  return dev == other.dev && same_but_device(other);
}

proto::ByteView stats_view(const std::vector<EntryStat>& stats) {
  return {reinterpret_cast<const char*>(stats.data()), stats.size() * sizeof(EntryStat)};
}

std::vector<EntryStat> stats_of(proto::ByteView bytes) {
  if (bytes.size() % sizeof(EntryStat) != 0)
    throw std::runtime_error("the index holds a damaged stat array: remove it to scan anew");
  std::vector<EntryStat> stats(bytes.size() / sizeof(EntryStat));
  if (!stats.empty()) std::memcpy(stats.data(), bytes.data(), bytes.size());
  return stats;
}

bool same_inode(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool describe(const struct stat& st, proto::Entry& entry) {
  using proto::EntryType;
  entry.mode = st.st_mode & 07777;
  entry.uid = st.st_uid;
  entry.gid = st.st_gid;
  entry.mtime_s = st.st_mtim.tv_sec;
  entry.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  entry.flags = 0;
  entry.size = 0;
  entry.major = entry.minor = 0;
  if (entry.uid == UINT32_MAX || entry.gid == UINT32_MAX) return false;
  switch (st.st_mode & S_IFMT) {
    case S_IFREG:
      entry.type = EntryType::File;
      entry.size = static_cast<std::uint64_t>(st.st_size);
      return true;
    case S_IFDIR:
      entry.type = EntryType::Directory;
      return true;
    case S_IFLNK:
      entry.type = EntryType::Symlink;
      entry.mode = 0777;
      return true;
    case S_IFCHR:
    case S_IFBLK:
      entry.type = S_ISCHR(st.st_mode) ? EntryType::CharDevice : EntryType::BlockDevice;
      entry.major = major(st.st_rdev);
      entry.minor = minor(st.st_rdev);
      return true;
    case S_IFIFO:
      entry.type = EntryType::Fifo;
      return true;
    case S_IFSOCK:
      entry.type = EntryType::Socket;
      return true;
  }
  return false;
}

}  // namespace mirrorbus::tree
