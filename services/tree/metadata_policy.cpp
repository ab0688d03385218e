#include "services/tree/metadata_policy.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/safe_links.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
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

Fidelity& Fidelity::operator+=(const Fidelity& other) {
  owners += other.owners;
  devices += other.devices;
  xattrs += other.xattrs;
  limits += other.limits;
  filtered += other.filtered;
  return *this;
}

Fidelity& Fidelity::operator-=(const Fidelity& other) {
  owners -= other.owners;
  devices -= other.devices;
  xattrs -= other.xattrs;
  limits -= other.limits;
  filtered -= other.filtered;
  return *this;
}

MetadataPolicy::MetadataPolicy(Settings settings, const proto::OwnersTable& owners, XattrSets* sets)
    : settings_(std::move(settings)), sets_(sets) {
  if (!sets_) settings_.xattrs = XattrMode::None;
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

bool MetadataPolicy::leads_out(proto::ByteView directory, const Entry& entry) const {
  return settings_.safe_links && entry.type == EntryType::Symlink &&
         tree::leads_out(directory, entry.target);
}

bool MetadataPolicy::filtered(const Place& in, const Entry& entry) const {
  if (settings_.filter.empty()) return false;
  return in.left_out || settings_.filter.excludes(proto::join_path(in.path, entry.name)) ||
         (entry.type == EntryType::File && settings_.filter.excludes_size(entry.size));
}

bool MetadataPolicy::wanted(const Place& in, const Entry& entry) const {
  const bool device = entry.type == EntryType::CharDevice || entry.type == EntryType::BlockDevice;
  return (!device || settings_.devices) && !leads_out(in.path, entry) && !filtered(in, entry);
}

std::uint32_t MetadataPolicy::mode(const Entry& entry) const {
  const bool strip = settings_.nosuid && entry.type == EntryType::File;
  return strip ? entry.mode & ~static_cast<std::uint32_t>(S_ISUID | S_ISGID) : entry.mode;
}

std::uint32_t MetadataPolicy::mode_at_birth(const Entry& entry) const {
  const std::uint32_t bits = mode(entry), all = bits & bits >> 3 & 07;
  return (bits & 0700) | all << 3 | all;
}

std::uint32_t MetadataPolicy::name_mode(const Entry& entry,
                                        std::initializer_list<const Entry*> candidates) const {
  if (!settings_.nosuid || entry.type != EntryType::File) return entry.mode;
  for (const Entry* candidate : candidates)
    if (candidate && candidate->type == entry.type && mode(*candidate) == entry.mode)
      return candidate->mode;
  return entry.mode == mode(entry) ? entry.mode : entry.mode ^ 01;
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
         (S_ISLNK(st.st_mode) || (st.st_mode & 07777) == mode(entry));
}

bool MetadataPolicy::Settings::same_metadata(const Entry& a, const Entry& b) const {
  return a.mode == b.mode && a.mtime_s == b.mtime_s && a.mtime_ns == b.mtime_ns &&
         (xattrs == XattrMode::None || a.xattrs == b.xattrs) &&
         (owner == OwnerMode::None || (a.uid == b.uid && a.gid == b.gid));
}

bool MetadataPolicy::bring(const EntryOps& ops, int dir, const Bytes& name, const struct stat& now,
                           const Entry& entry, Xattrs known) const {
  const bool owner = !owner_matches(now, entry);
  if (owner) ops.set_owner(dir, name, uid(entry.uid), gid(entry.gid));
  const std::uint32_t wanted_mode = this->mode(entry);
  bool mode = owner || (now.st_mode & 07777) != wanted_mode;

  proto::XattrSet have, want;
  bool attributes = false, all_set = true;
  // What chown and chmod take away has to be set again.
  const bool disturbed = entry.xattrs && (owner || mode);
  if (xattrs() && (known == Xattrs::Unknown || disturbed)) {
    want = wanted_xattrs(entry);
    const auto read = read_xattrs(dir, name, settings_.xattrs);
    // What cannot be read may be set all the same: a plain user's file without the right to read.
    if (read) have = *read;
    attributes = !read || have != want;
    constexpr mode_t kOpen = S_IRUSR | S_IWUSR;
    const bool closed = ::geteuid() != 0 && (now.st_mode & kOpen) != kOpen;
    if (attributes && closed && !S_ISLNK(now.st_mode)) {
      ops.set_mode(dir, name, (now.st_mode & 07777) | kOpen);
      mode = true;
      if (const auto again = read_xattrs(dir, name, settings_.xattrs)) have = *again;
    }
    if (attributes) all_set = change_xattrs(ops, dir, name, XattrPart::Plain, have, want);
  }
  if (!S_ISLNK(now.st_mode) && mode) ops.set_mode(dir, name, wanted_mode);
  if (attributes) {
    // As chmod has left them.
    const auto again = read_xattrs(dir, name, settings_.xattrs);
    if (again) have = *again;
    all_set = change_xattrs(ops, dir, name, XattrPart::Acls, have, want) && all_set;
  } else if (mode && !want.empty()) {
    const auto again = read_xattrs(dir, name, settings_.xattrs);
    if (again && *again != want)
      all_set = change_xattrs(ops, dir, name, XattrPart::Acls, *again, want);
  }
  if (!mtime_matches(now, entry)) ops.set_mtime(dir, name, entry.mtime_s, entry.mtime_ns);
  return all_set;
}

void MetadataPolicy::dress(const EntryOps& ops, int dir, const Bytes& name,
                           const Entry& entry) const {
  const auto st = ops.look(dir, name);
  if (!st) throw std::runtime_error("a new file has vanished: " + name);
  bring(ops, dir, name, *st, entry, entry.xattrs ? Xattrs::Unknown : Xattrs::Known);
}

void MetadataPolicy::need(const Entry& entry) const {
  if (!xattrs() || !entry.xattrs || sets_->need(*entry.xattrs)) return;
  throw std::runtime_error("xattr set " + to_hex(*entry.xattrs) + " is not at hand");
}

proto::XattrSet MetadataPolicy::wanted_xattrs(const Entry& entry) const {
  if (!xattrs() || !entry.xattrs) return {};
  return carried(settings_.xattrs, sets_->get(*entry.xattrs));
}

MetadataPolicy::XattrMatch MetadataPolicy::match_xattrs(int dir, const Bytes& name,
                                                        const Entry& entry) const {
  if (!xattrs()) return entry.xattrs ? XattrMatch::Short : XattrMatch::Equal;
  const auto have = read_xattrs(dir, name, settings_.xattrs);
  if (!entry.xattrs) return have && have->empty() ? XattrMatch::Equal : XattrMatch::Differ;
  const proto::XattrSet all = sets_->get(*entry.xattrs);
  const proto::XattrSet want = carried(settings_.xattrs, all);
  if (!have || *have != want) return XattrMatch::Differ;
  return want.size() == all.size() ? XattrMatch::Equal : XattrMatch::Short;
}

std::optional<proto::Hash> MetadataPolicy::name_xattrs(
    int dir, const Bytes& name, std::initializer_list<const Entry*> candidates,
    bool some_missing) const {
  const auto have = read_xattrs(dir, name, settings_.xattrs);
  for (const Entry* candidate : candidates) {
    if (!have || !candidate) continue;
    if (!candidate->xattrs) {
      if (have->empty()) return std::nullopt;
      continue;
    }
    if (!sets_->need(*candidate->xattrs)) continue;
    const auto want = carried(settings_.xattrs, sets_->get(*candidate->xattrs));
    if (*have == want || (some_missing && std::ranges::includes(want, *have)))
      return candidate->xattrs;
  }
  if (have && have->empty()) return std::nullopt;
  // No set has this id by chance.
  return have ? proto::xattr_set_id(proto::encode_xattr_set(*have))
              : proto::Hash::from_bytes(Bytes(proto::Hash::kSize, '\xff'));
}

void MetadataPolicy::count(const EntryStat& stat, Fidelity& into) {
  if (stat.flags & EntryStat::kXattrsShort) ++into.xattrs;
  if (stat.flags & EntryStat::kLimited) ++into.limits;
}

void MetadataPolicy::count(const Place& in, const Entry& entry, const EntryStat& stat,
                           Fidelity& into) const {
  if (filtered(in, entry)) {
    ++into.filtered;
    return;
  }
  if (!wanted(in, entry)) {
    ++(entry.type == EntryType::Symlink ? into.limits : into.devices);
    return;
  }
  if (mode(entry) != entry.mode) ++into.limits;
  if (settings_.owner == OwnerMode::None && (entry.uid != ::geteuid() || entry.gid != ::getegid()))
    ++into.owners;
  count(stat, into);
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
