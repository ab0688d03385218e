#include "services/tree/metadata_policy.hpp"

#include <cerrno>
#include <vector>

#include <grp.h>
#include <pwd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;

namespace {

// getpwnam_r and getgrnam_r share a shape; names that are unknown, and a name service that does not
// answer, leave the number as it is.
template <class Record, class Find>
const Record* find_by_name(Find find, const Bytes& name, Record& record, std::vector<char>& room) {
  Record* found = nullptr;
  int error;
  while ((error = find(name.c_str(), &record, room.data(), room.size(), &found)) == ERANGE)
    room.resize(room.size() * 2);
  return error == 0 ? found : nullptr;
}

}  // namespace

OwnerMode MetadataPolicy::Settings::default_owner() {
  return ::geteuid() == 0 ? OwnerMode::Numeric : OwnerMode::None;
}

bool MetadataPolicy::Settings::default_devices() {
  return ::geteuid() == 0;
}

MetadataPolicy::MetadataPolicy(Settings settings, const proto::OwnersTable& owners)
    : settings_(std::move(settings)) {
  if (settings_.owner != OwnerMode::Name) return;
  std::vector<char> room(4096);
  for (const auto& [id, name] : owners.users) {
    passwd record;
    if (const passwd* user = find_by_name(::getpwnam_r, name, record, room);
        user && user->pw_uid != id)
      users_.emplace(id, user->pw_uid);
  }
  for (const auto& [id, name] : owners.groups) {
    group record;
    if (const group* found = find_by_name(::getgrnam_r, name, record, room);
        found && found->gr_gid != id)
      groups_.emplace(id, found->gr_gid);
  }
}

bool MetadataPolicy::wanted(const Entry& entry) const {
  const bool device = entry.type == EntryType::CharDevice || entry.type == EntryType::BlockDevice;
  return !device || settings_.devices;
}

uid_t MetadataPolicy::uid(std::uint32_t signed_id) const {
  const auto found = users_.find(signed_id);
  return found == users_.end() ? signed_id : found->second;
}

gid_t MetadataPolicy::gid(std::uint32_t signed_id) const {
  const auto found = groups_.find(signed_id);
  return found == groups_.end() ? signed_id : found->second;
}

bool MetadataPolicy::owner_matches(const struct stat& st, const Entry& entry) const {
  return settings_.owner == OwnerMode::None ||
         (st.st_uid == uid(entry.uid) && st.st_gid == gid(entry.gid));
}

bool MetadataPolicy::matches(const struct stat& st, const Entry& entry) const {
  return mtime_matches(st, entry) && owner_matches(st, entry) &&
         (S_ISLNK(st.st_mode) || (st.st_mode & 07777) == entry.mode);
}

bool MetadataPolicy::same_metadata(const Entry& a, const Entry& b) const {
  return a.mode == b.mode && a.mtime_s == b.mtime_s && a.mtime_ns == b.mtime_ns &&
         a.xattrs == b.xattrs &&
         (settings_.owner == OwnerMode::None || (a.uid == b.uid && a.gid == b.gid));
}

void MetadataPolicy::bring(const EntryOps& ops, int dir, const Bytes& name, const struct stat& now,
                           const Entry& entry) const {
  const bool owner = !owner_matches(now, entry);
  if (owner) ops.set_owner(dir, name, uid(entry.uid), gid(entry.gid));
  if (!S_ISLNK(now.st_mode) && (owner || (now.st_mode & 07777) != entry.mode))
    ops.set_mode(dir, name, entry.mode);
  if (entry.xattrs && settings_.set_xattrs) settings_.set_xattrs(dir, name, *entry.xattrs);
  if (!mtime_matches(now, entry)) ops.set_mtime(dir, name, entry.mtime_s, entry.mtime_ns);
}

void MetadataPolicy::count(const Entry& entry, Fidelity& into) const {
  if (!wanted(entry)) {
    ++into.devices;
    return;
  }
  if (settings_.owner == OwnerMode::None && (entry.uid != ::geteuid() || entry.gid != ::getegid()))
    ++into.owners;
  if (entry.xattrs && !settings_.set_xattrs) ++into.xattrs;
}

mode_t type_bits(EntryType type) {
  switch (type) {
    case EntryType::File: return S_IFREG;
    case EntryType::Directory: return S_IFDIR;
    case EntryType::Symlink: return S_IFLNK;
    case EntryType::CharDevice: return S_IFCHR;
    case EntryType::BlockDevice: return S_IFBLK;
    case EntryType::Fifo: return S_IFIFO;
    case EntryType::Socket: return S_IFSOCK;
  }
  return 0;
}

bool same_type(const struct stat& st, EntryType type) {
  return (st.st_mode & S_IFMT) == type_bits(type);
}

bool mtime_matches(const struct stat& st, const Entry& entry) {
  return st.st_mtim.tv_sec == entry.mtime_s &&
         static_cast<std::uint32_t>(st.st_mtim.tv_nsec) == entry.mtime_ns;
}

}  // namespace mirrorbus::tree
