#include "services/tree/origin_content.hpp"

#include "proto/sha256.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;

namespace {

constexpr std::size_t kRemembered = 64 * 1024;
// Up to here a file is hashed while somebody waits.
constexpr std::uint64_t kHashAtOnce = 4 * 1024 * 1024;

std::optional<ServedFile> open_at(int dir, const std::string& path) {
  ServedFile file{Fd(::openat(dir, path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)), {}};
  if (!file.fd || ::fstat(file.fd.get(), &file.st) != 0 || !S_ISREG(file.st.st_mode))
    return std::nullopt;
  return file;
}

}  // namespace

OriginContent::OriginContent(const std::string& index_file, const std::string& work,
                             const std::string& tree_path)
    : index_(index_file, {.read_only = true}), work_(work), places_(index_, work, tree_path) {}
OriginContent::~OriginContent() = default;

std::optional<ServedFile> OriginContent::pack(const Hash& hash) {
  return open_at(AT_FDCWD, work_ + "/packs/" + proto::to_hex(hash));
}

std::optional<Bytes> OriginContent::node(const Hash& hash) { return index_.blob(hash); }

std::optional<ServedFile> OriginContent::object(const Hash& hash) {
  if (!objects_)  // of a mirror there are none
    objects_ = Fd(::open((work_ + "/objects").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (objects_) {
    const std::string hex = proto::to_hex(hash);
    auto file = open_at(objects_.get(), hex.substr(0, 2) + "/" + hex);
    // An object with no other name is ours alone: nobody writes to it.
    if (file && (file->st.st_nlink == 1 || good(hash, *file))) return file;
  }
  return places_.open(hash, [&](const ServedFile& file) { return hashes_to(hash, file); });
}

bool OriginContent::remembered(const Hash& hash, const EntryStat& stat) {
  const auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return false;
  recent_.splice(recent_.begin(), recent_, it->second);
  // Our own links move the ctime, so that is not asked for. Writers move the mtime.
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
  return places_.recorded(hash, EntryStat::of(file.st)) || hashes_to(hash, file);
}

bool OriginContent::hashes_to(const Hash& hash, const ServedFile& file) {
  const EntryStat now = EntryStat::of(file.st);
  if (remembered(hash, now)) return true;
  if (file.size() > kHashAtOnce) return false;
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

}  // namespace mirrorbus::tree
