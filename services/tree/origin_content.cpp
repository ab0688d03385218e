#include "services/tree/origin_content.hpp"

#include "proto/sha256.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/root_dir.hpp"
#include "services/tree/snapshots.hpp"

#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using proto::Entry;
using proto::EntryType;

namespace {

constexpr std::size_t kRemembered = 64 * 1024;
// Up to here a file is hashed while somebody waits; beyond, the index is asked what it was.
constexpr std::uint64_t kHashAtOnce = 4 * 1024 * 1024;

std::uint64_t short_hash(const Hash& hash) {
  std::uint64_t value;
  std::memcpy(&value, hash.octets.data(), sizeof value);
  return value;
}

std::optional<ServedFile> open_at(const std::string& path) {
  ServedFile file{Fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)), {}};
  if (!file.fd || ::fstat(file.fd.get(), &file.st) != 0 || !S_ISREG(file.st.st_mode))
    return std::nullopt;
  return file;
}

}  // namespace

bool ServedFile::unchanged() const {
  struct stat now;
  return ::fstat(fd.get(), &now) == 0 && now.st_size == st.st_size &&
         now.st_mtim.tv_sec == st.st_mtim.tv_sec && now.st_mtim.tv_nsec == st.st_mtim.tv_nsec;
}

OriginContent::OriginContent(const std::string& index_file, const std::string& work,
                             const std::string& tree_path)
    : index_(index_file, {.read_only = true}), work_(work), tree_path_(tree_path) {}
OriginContent::~OriginContent() = default;

std::optional<ServedFile> OriginContent::pack(const Hash& hash) {
  return open_at(work_ + "/packs/" + proto::to_hex(hash));
}

std::optional<Bytes> OriginContent::node(const Hash& hash) { return index_.blob(hash); }

std::optional<ServedFile> OriginContent::object(const Hash& hash) {
  const std::string hex = proto::to_hex(hash);
  auto file = open_at(work_ + "/objects/" + hex.substr(0, 2) + "/" + hex);
  // An object with no other name is ours alone: nobody writes to it.
  if (file && (file->st.st_nlink == 1 || good(hash, *file))) return file;
  return from_tree(hash);
}

bool OriginContent::remembered(const Hash& hash, const EntryStat& stat) {
  const auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return false;
  recent_.splice(recent_.begin(), recent_, it->second);
  // Our own links move the ctime, so that cannot be asked for. Writers move the mtime.
  const EntryStat& known = it->second->stat;
  return known.dev == stat.dev && known.ino == stat.ino && known.size == stat.size &&
         known.mtime_s == stat.mtime_s && known.mtime_ns == stat.mtime_ns;
}

void OriginContent::remember(const Hash& hash, const EntryStat& stat) {
  if (const auto it = by_hash_.find(hash); it != by_hash_.end()) {
    it->second->stat = stat;
    return;
  }
  recent_.push_front({hash, stat});
  by_hash_[hash] = recent_.begin();
  if (recent_.size() <= kRemembered) return;
  by_hash_.erase(recent_.back().hash);
  recent_.pop_back();
}

bool OriginContent::good(const Hash& hash, const ServedFile& file) {
  const EntryStat now = EntryStat::of(file.st);
  if (remembered(hash, now)) return true;
  if (file.size() > kHashAtOnce) {
    // What the scan recorded for this inode when it hashed it.
    bool as_recorded = false;
    list_contents();
    auto place = std::ranges::lower_bound(places_, Place{short_hash(hash), 0, 0});
    for (; place != places_.end() && place->content == short_hash(hash) && !as_recorded; ++place) {
      const auto row = index_.directory(directories_[place->directory]);
      as_recorded = row && place->at < row->stats.size() && row->stats[place->at].same(now);
    }
    if (as_recorded) remember(hash, now);
    return as_recorded;
  }
  proto::Sha256 sum;
  Bytes buffer(256 * 1024, '\0');
  for (std::uint64_t at = 0; at < file.size();) {
    const ssize_t n =
        ::pread(file.fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    sum.update({buffer.data(), static_cast<std::size_t>(n)});
    at += static_cast<std::uint64_t>(n);
  }
  if (sum.finish() != hash || !file.unchanged()) return false;
  remember(hash, now);
  return true;
}

// One pass over the index: 16 bytes a file.
void OriginContent::list_contents() {
  const auto newest = index_.newest();
  if (!newest || newest->record.number == listed_version_) return;
  places_.clear();
  directories_.clear();
  index_.each_node("", Bytes(256, '\xff'), [this](const Index::NodeRow& row) {
    proto::NodeReader reader(row.node);
    Entry entry;
    const auto directory = static_cast<std::uint32_t>(directories_.size());
    bool any = false;
    for (std::uint32_t at = 0; reader.next(entry); ++at) {
      if (entry.type != EntryType::File) continue;
      places_.push_back({short_hash(entry.content), directory, at});
      any = true;
    }
    if (any) directories_.push_back(row.path);
    return true;
  });
  std::ranges::sort(places_);
  listed_version_ = newest->record.number;
}

std::optional<ServedFile> OriginContent::from_tree(const Hash& hash) try {
  list_contents();
  auto place = std::ranges::lower_bound(places_, Place{short_hash(hash), 0, 0});
  RootDir root(Snapshots::newest_path(index_, work_).value_or(tree_path_));
  for (; place != places_.end() && place->content == short_hash(hash); ++place) {
    const auto row = index_.directory(directories_[place->directory]);
    const auto node = row ? proto::decode_node(row->node) : proto::Node();
    if (!node || place->at >= node->entries.size()) continue;
    const Entry& entry = node->entries[place->at];
    if (entry.content != hash) continue;
    const auto dir = root.open(row->path);
    auto open = open_file(dir.get(), entry.name);
    if (!open) continue;
    ServedFile file{std::move(open->fd), open->st};
    if (row->stats[place->at].same(EntryStat::of(file.st)) || good(hash, file)) return file;
  }
  return std::nullopt;
} catch (const std::system_error&) {
  // The directory is not there any more: neither is the content.
  return std::nullopt;
}

}  // namespace mirrorbus::tree
