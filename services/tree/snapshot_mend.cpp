#include "services/tree/snapshot_mend.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/entry_stat.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/item_errors.hpp"
#include "services/tree/root_dir.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;

namespace {

// What has come of larger ones is kept for the next try.
constexpr std::uint64_t kByRange = 8 << 20;

class OneContent : public ContentSink {
 public:
  OneContent(StagedFile& file, const Hash& hash) : file_(file), hash_(hash) {}
  bool begun() const { return begun_; }

  void begin(const Hash& hash) override { begun_ = hash == hash_; }
  void write(ByteView bytes) override {
    if (begun_) (void)file_.write(bytes);  // too large: then it does not finish
  }
  void end() override {}
  void gone(const Hash&, const std::string&) override {}

 private:
  StagedFile& file_;
  const Hash hash_;
  bool begun_ = false;
};

// A directory in which names change, and which looks afterwards as it did.
class SameDirectory {
 public:
  SameDirectory(const EntryOps& ops, int dir) : ops_(ops), dir_(dir) {
    const auto st = ops_.look(dir_, {});
    if (!st) throw std::runtime_error("a directory has vanished");
    st_ = *st;
    if (closed()) ops_.set_mode(dir_, {}, (st_.st_mode & 07777) | S_IRWXU);
  }
  void restore() {
    if (closed()) ops_.set_mode(dir_, {}, st_.st_mode & 07777);
    ops_.set_mtime(dir_, {}, st_.st_mtim.tv_sec, static_cast<std::uint32_t>(st_.st_mtim.tv_nsec));
  }

 private:
  bool closed() const { return ::geteuid() != 0 && (st_.st_mode & S_IWUSR) == 0; }

  const EntryOps& ops_;
  const int dir_;
  struct stat st_;
};

}  // namespace

struct SnapshotMend::Dress {
  Dress(const MirrorSettings& settings, const Index& index, int work, std::uint64_t of,
        const proto::OwnersTable& owners)
      : number(of),
        sets(work, [&index](const Hash& id) { return index.blob(id); }),
        policy(settings.metadata, owners, &sets) {}

  const std::uint64_t number;
  XattrSets sets;
  const MetadataPolicy policy;
};

SnapshotMend::SnapshotMend(const MirrorSettings& settings, const Index& index,
                           const Snapshots& snapshots, ContentSource& source, int work)
    : settings_(settings),
      index_(index),
      snapshots_(snapshots),
      all_(snapshots.all()),
      source_(source),
      work_(work),
      ops_(settings.probe),
      staging_(work, ops_, settings.boot) {
  staging_.sort_leftovers();
}

SnapshotMend::~SnapshotMend() {
  for (const Bytes& name : names_) ::unlinkat(staging_.dir(), name.c_str(), 0);
}

void SnapshotMend::finish() {
  if (!names_.empty() && ::syncfs(work_) != 0) throw_errno("syncfs");
}

bool SnapshotMend::mend(const SnapshotCheck::File& file) {
  try {
    const auto name = staged(file);
    if (!name) return false;
    place(*name, file.dir, file.entry.name);
    if (file.now) place_before(*name, file);
    return true;
  } catch (const std::system_error& error) {
    if (ItemErrors::concerns_all(error)) throw;
    return false;
  }
}

// The name in staging of what it is to be.
std::optional<Bytes> SnapshotMend::staged(const SnapshotCheck::File& file) {
  if (file.now) {
    const auto known = by_inode_.find({file.now->st_dev, file.now->st_ino});
    if (known != by_inode_.end()) return known->second;
  }
  Dress* const dress = this->dress(file.version);
  if (!dress) return {};
  if (dress->policy.xattrs() && file.entry.xattrs && !dress->sets.need(*file.entry.xattrs))
    return {};
  const auto number = content(file);
  if (!number) return {};
  Bytes name = Staging::content_name(file.entry.content, *number);
  names_.push_back(name);
  // On disk before it takes the place of what is perhaps only unreadable today.
  const base::Fd fd(
      ::openat(staging_.dir(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) throw_errno("fsync " + name);
  dress->policy.dress(ops_, staging_.dir(), name, file.entry);
  if (file.now) by_inode_.emplace(Inode{file.now->st_dev, file.now->st_ino}, name);
  return name;
}

SnapshotMend::Dress* SnapshotMend::dress(const StoredVersion& version) {
  const std::uint64_t number = version.record.number;
  if (dress_ && dress_->number == number) return dress_.get();
  const auto bytes = index_.blob(version.root.owners);
  const auto owners = bytes ? proto::decode_owners(*bytes) : proto::refuse(proto::Reject::BadHash);
  if (!owners) return nullptr;
  dress_ = std::make_unique<Dress>(settings_, index_, work_, number, *owners);
  return dress_.get();
}

std::optional<std::uint32_t> SnapshotMend::content(const SnapshotCheck::File& file) {
  const Wanted wanted{file.entry.content, file.entry.size};
  if (const auto left = staging_.claim(wanted)) return left;
  if (const auto beside = copied(file, wanted)) return beside;
  return fetched(wanted);
}

// Another version may have the same content under other metadata.
std::optional<std::uint32_t> SnapshotMend::copied(const SnapshotCheck::File& file,
                                                  const Wanted& wanted) {
  const Bytes& name = file.entry.name;
  for (std::size_t at = 0; at < all_.size(); ++at) {
    if (at == file.at) continue;
    RootDir root(snapshots_.path_of(all_[at].name));
    try {
      const auto dir = root.open(proto::parent_path(file.path));
      const auto st = ops_.look(dir.get(), name);
      const bool same = st && file.now && same_inode(*st, *file.now);
      if (!st || same || static_cast<std::uint64_t>(st->st_size) != wanted.size_bytes) continue;
      StagedFile staged(staging_, wanted);
      (void)read_file(dir.get(), name, [&](ByteView bytes) { (void)staged.write(bytes); });
      if (const auto number = staged.finish()) return number;
    } catch (const std::system_error& error) {
      if (ItemErrors::concerns_all(error)) throw;
    }
  }
  return {};
}

std::optional<std::uint32_t> SnapshotMend::fetched(const Wanted& wanted) {
  // Once more than there are places.
  for (std::size_t round = 0; round <= source_.places() && !source_failed_; ++round) {
    const bool large = wanted.size_bytes > kByRange;
    StagedFile staged(staging_, wanted, large);
    OneContent sink(staged, wanted.hash);
    try {
      large ? source_.fetch_range(wanted, staged.offset(), sink)
            : source_.fetch_objects({&wanted, 1}, sink);
    } catch (const SourceError&) {
      source_failed_ = true;
    }
    if (const auto number = staged.finish()) return number;
    if (!sink.begun()) return {};
    if (!source_failed_) source_.bad(wanted.hash, proto::Reject::BadHash, "is not what was signed");
  }
  return {};
}

// In versions before this one, as far as it is the same inode there.
void SnapshotMend::place_before(const Bytes& staged, const SnapshotCheck::File& file) {
  for (std::size_t at = file.at; at-- > 0;) {
    RootDir root(snapshots_.path_of(all_[at].name));
    std::optional<RootDir::Dir> dir;
    try {
      dir = root.open(proto::parent_path(file.path));
    } catch (const std::system_error&) {
      return;
    }
    const auto st = ops_.look(dir->get(), file.entry.name);
    if (!st || !same_inode(*st, *file.now)) return;
    place(staged, dir->get(), file.entry.name);
  }
}

void SnapshotMend::place(const Bytes& staged, int dir, const Bytes& name) {
  const Bytes once_more = Staging::other_name(staging_.next_number());
  ops_.link(staging_.dir(), staged, staging_.dir(), once_more);
  SameDirectory directory(ops_, dir);
  try {
    ops_.replace(staging_.dir(), once_more, dir, name);
  } catch (...) {
    ::unlinkat(staging_.dir(), once_more.c_str(), 0);
    directory.restore();
    throw;
  }
  directory.restore();
}

}  // namespace mirrorbus::tree
