#include "services/tree/store_source.hpp"

#include "proto/sha256.hpp"

#include <functional>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Hash;

namespace {

// From `offset` to the end, in pieces; how many bytes there were.
std::uint64_t read_on(int fd, std::uint64_t offset, const std::function<void(ByteView)>& sink) {
  Bytes buffer(256 * 1024, '\0');
  const std::uint64_t begun = offset;
  for (;;) {
    const ssize_t n = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) base::throw_errno("reading the store");
    if (n == 0) return offset - begun;
    sink({buffer.data(), static_cast<std::size_t>(n)});
    offset += static_cast<std::uint64_t>(n);
  }
}

}  // namespace

bool StoreSource::holds(const Wanted& object) {
  const base::Fd fd = store_.open(object.hash);
  if (!fd) return false;
  proto::Sha256 sum;
  const std::uint64_t size = read_on(fd.get(), 0, [&sum](ByteView piece) { sum.update(piece); });
  if (size == object.size_bytes && sum.finish() == object.hash) return true;
  store_.drop(object.hash);
  return false;
}

void StoreSource::fetch_pack(const Wanted& pack, std::uint64_t, ContentSink& sink) {
  sink.gone(pack.hash, "a store has no packs");
}

void StoreSource::fetch_nodes(std::span<const Hash> ids, std::uint64_t, ContentSink& sink) {
  for (const Hash& id : ids) sink.gone(id, "the version is no longer held");
}

void StoreSource::fetch_objects(std::span<const Wanted> objects, ContentSink& sink) {
  for (const Wanted& object : objects) fetch_range(object, 0, sink);
}

void StoreSource::fetch_range(const Wanted& object, std::uint64_t offset, ContentSink& sink) {
  const base::Fd fd = store_.open(object.hash);
  if (!fd) return sink.gone(object.hash, "is no longer held");
  sink.begin(object.hash);
  read_on(fd.get(), offset, [&sink](ByteView piece) { sink.write(piece); });
  sink.end();
}

}  // namespace mirrorbus::tree
