#include "services/tree/blob_cache.hpp"

#include "proto/sha256.hpp"
#include "proto/wire.hpp"
#include "services/tree/spool.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Hash;

namespace {
constexpr std::size_t kHeader = Hash::kSize + 4;
constexpr std::size_t kBuffer = 256 * 1024;
}  // namespace

BlobCache::BlobCache(int dir, const Bytes& name)
    : file_(::openat(dir, name.c_str(), O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600)) {
  if (!file_) base::throw_errno("open " + name + " in the work folder");
  load();
}

void BlobCache::load() {
  struct stat st;
  if (::fstat(file_.get(), &st) != 0) base::throw_errno("stat the metadata cache");
  const auto size = static_cast<std::uint64_t>(st.st_size);
  while (size - end_ >= kHeader) {
    const Bytes header = read_exactly_at(file_.get(), kHeader, end_, "the metadata cache");
    proto::Reader r(header);
    const Hash id = r.hash();
    const std::uint32_t length = r.u32();
    if (size - end_ - kHeader < length) break;
    const Bytes bytes = read_exactly_at(file_.get(), length, end_ + kHeader, "the metadata cache");
    if (proto::sha256(bytes) != id) break;
    blobs_.emplace(id, Slot{end_ + kHeader, length});
    end_ += kHeader + length;
  }
  if (::ftruncate(file_.get(), static_cast<off_t>(end_)) != 0)
    base::throw_errno("cut the metadata cache");
}

std::optional<Bytes> BlobCache::get(const Hash& id) const {
  const auto found = blobs_.find(id);
  if (found == blobs_.end()) return {};
  const Slot slot = found->second;
  if (slot.at >= end_) return buffer_.substr(slot.at - end_, slot.size);
  return read_exactly_at(file_.get(), slot.size, slot.at, "the metadata cache");
}

void BlobCache::put(const Hash& id, ByteView bytes) {
  const Slot slot{end_ + buffer_.size() + kHeader, static_cast<std::uint32_t>(bytes.size())};
  if (!blobs_.emplace(id, slot).second) return;
  proto::Writer(buffer_).hash(id).u32(slot.size).raw(bytes);
  if (buffer_.size() >= kBuffer) flush();
}

void BlobCache::flush() {
  write_all_at(file_.get(), buffer_, end_, "the metadata cache");
  end_ += buffer_.size();
  buffer_.clear();
}

void BlobCache::clear() {
  blobs_.clear();
  buffer_.clear();
  end_ = 0;
  if (::ftruncate(file_.get(), 0) != 0) base::throw_errno("empty the metadata cache");
}

}  // namespace mirrorbus::tree
