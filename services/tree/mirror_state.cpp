#include "services/tree/mirror_state.hpp"

#include "bus/base/fd.hpp"
#include "services/tree/index_xattrs.hpp"

#include <cstdlib>
#include <cstring>

#include <sys/stat.h>
#include <sys/statfs.h>

namespace mirrorbus::tree {

namespace {

// Settings of the index.
constexpr std::string_view kTree = "mirror.tree";
constexpr std::string_view kApplying = "mirror.applying";  // tree hash, several, or empty: none
constexpr std::string_view kRoot = "mirror.root";
constexpr std::string_view kFirst = "mirror.first";
constexpr std::string_view kMissing = "mirror.missing";
constexpr std::string_view kFidelity = "mirror.fidelity";
constexpr std::string_view kPolicy = "mirror.policy";
constexpr std::string_view kXattrSets = "mirror.xattr_sets";

Bytes encode(const Fidelity& f) {
  Bytes bytes;
  proto::Writer(bytes).u64(f.owners).u64(f.devices).u64(f.xattrs).u64(f.limits).u64(f.filtered);
  return bytes;
}

Bytes encode(const std::vector<MissingItem>& items) {
  Bytes bytes;
  proto::Writer w(bytes);
  w.varint(items.size());
  for (const MissingItem& item : items)
    w.varint(item.path.size()).raw(item.path).varint(item.reason.size()).raw(item.reason);
  return bytes;
}

}  // namespace

RootIdentity RootIdentity::of(int fd) {
  struct stat st;
  struct statfs fs;
  if (::fstat(fd, &st) != 0 || ::fstatfs(fd, &fs) != 0) base::throw_errno("stat the tree's root");
  RootIdentity id{st.st_ino, st.st_dev, 0};
  static_assert(sizeof fs.f_fsid == sizeof id.fsid);
  std::memcpy(&id.fsid, &fs.f_fsid, sizeof id.fsid);
  return id;
}

std::optional<RootIdentity> MirrorState::identity(std::string_view key) const {
  const auto bytes = index_.setting(key);
  if (!bytes || bytes->size() != 24) return {};
  proto::Reader r(*bytes);
  RootIdentity id;
  for (std::uint64_t* n : {&id.ino, &id.dev, &id.fsid}) *n = r.u64();
  return id;
}

void MirrorState::set_identity(std::string_view key, const RootIdentity& root) {
  Bytes bytes;
  proto::Writer(bytes).u64(root.ino).u64(root.dev).u64(root.fsid);
  index_.set_setting(key, bytes);
}

std::optional<Bytes> MirrorState::tree() const { return index_.setting(kTree); }
std::optional<RootIdentity> MirrorState::root() const { return identity(kRoot); }
void MirrorState::set_root(const RootIdentity& root) { set_identity(kRoot, root); }
std::optional<RootIdentity> MirrorState::first_root() const { return identity(kFirst); }
void MirrorState::set_first_root(const RootIdentity& root) { set_identity(kFirst, root); }
std::optional<Bytes> MirrorState::policy() const { return index_.setting(kPolicy); }

Fidelity MirrorState::fidelity() const {
  Fidelity f;
  const auto bytes = index_.setting(kFidelity);
  if (!bytes) return f;
  proto::Reader r(*bytes);
  for (std::uint64_t* n : {&f.owners, &f.devices, &f.xattrs, &f.limits, &f.filtered}) *n = r.u64();
  return f;
}

std::vector<MissingItem> MirrorState::missing() const {
  std::vector<MissingItem> items;
  const auto bytes = index_.setting(kMissing);
  if (!bytes) return items;
  proto::Reader r(*bytes);
  const std::uint64_t count = r.varint();
  for (std::uint64_t i = 0; i < count && !r.failure(); ++i) {
    MissingItem item;
    item.path = r.raw(r.varint());
    item.reason = r.raw(r.varint());
    items.push_back(std::move(item));
  }
  return items;
}

Bytes MirrorState::half_applied() const { return index_.setting(kApplying).value_or(Bytes()); }
bool MirrorState::applying() const { return !half_applied().empty(); }

void MirrorState::end_applying() { index_.set_setting(kApplying, {}); }

bool MirrorState::applying_others(const Hash& tree_hash) const {
  const Bytes what = half_applied();
  return !what.empty() && what != to_hex(tree_hash);
}

void MirrorState::begin_applying(const Hash& tree_hash) {
  const Bytes before = half_applied(), now = to_hex(tree_hash);
  if (before != now) index_.set_setting(kApplying, before.empty() ? now : Bytes("several"));
}

void MirrorState::commit(const Committed& now) {
  set_identity(kRoot, now.root);
  index_.set_setting(kFidelity, encode(now.fidelity));
  index_.set_setting(kPolicy, now.policy);
  index_.set_setting(kTree, now.tree.view());
  index_.set_setting(kApplying, {});
  index_.set_setting(kFirst, {});
  index_.set_setting(kMissing, encode(now.missing));
}

void MirrorState::forget_unused_xattr_sets() {
  constexpr std::uint64_t kFew = 1000;
  const std::uint64_t now = index_.xattr_sets().count();
  const Bytes text = index_.setting(kXattrSets).value_or("0");
  const std::uint64_t before = std::strtoull(text.c_str(), nullptr, 10);
  if (now <= 2 * before + kFew) return;
  index_.forget_unused_xattr_sets();
  index_.set_setting(kXattrSets, std::to_string(index_.xattr_sets().count()));
}

}  // namespace mirrorbus::tree
