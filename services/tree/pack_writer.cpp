#include "services/tree/pack_writer.hpp"

#include "proto/sha256.hpp"
#include "services/tree/pack_contents.hpp"
#include "services/tree/pack_nodes.hpp"
#include "services/tree/pack_xattrs.hpp"
#include "services/tree/patch.hpp"

#include <algorithm>
#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using base::throw_errno;

namespace {

constexpr int kNodeLevel = 3;
constexpr int kIndexLevel = 19;  // small, made once

void write_all(int fd, ByteView bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno("writing " + what);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

// A file without a lasting name yet; its frames come before its header is known.
class FrameFile {
 public:
  explicit FrameFile(const std::string& folder) : path_(folder + "/frames.tmp") {
    fd_ = Fd(::open(path_.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    if (!fd_) throw_errno("making " + path_);
    ::unlink(path_.c_str());
  }
  void add(ByteView bytes) {
    write_all(fd_.get(), bytes, path_);
    size_ += bytes.size();
  }
  // All that was added, to another file, and into its hash.
  void copy_to(int out, proto::Sha256& hash, const std::string& what) {
    Bytes buffer(1024 * 1024, '\0');
    if (::lseek(fd_.get(), 0, SEEK_SET) < 0) throw_errno("reading " + path_);
    for (std::uint64_t left = size_; left > 0;) {
      const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw_errno("reading " + path_, n < 0 ? errno : EIO);
      const ByteView piece(buffer.data(), static_cast<std::size_t>(n));
      hash.update(piece);
      write_all(out, piece, what);
      left -= piece.size();
    }
  }
  std::uint64_t size() const { return size_; }

 private:
  std::string path_;
  Fd fd_;
  std::uint64_t size_ = 0;
};

// The new tables against the old ones, where they differ.
void add_tables(const PackInput& input, const std::optional<StoredVersion>& base,
                proto::PackIndex& index, FrameFile& frames) {
  Bytes old_links, old_owners, changed;
  if (base) {
    old_links = input.index.blob(base->root.links).value_or("");
    old_owners = input.index.blob(base->root.owners).value_or("");
  }
  if (input.links != old_links) {
    index.links_size = input.links.size();
    changed += input.links;
  }
  if (input.owners != old_owners) {
    index.owners_size = input.owners.size();
    changed += input.owners;
  }
  if (changed.empty()) return;
  const Bytes stored = PatchEncoder().encode(changed, old_links + old_owners, kNodeLevel);
  index.tables_stored = stored.size();
  frames.add(stored);
}

}  // namespace

proto::PackRef write_pack(const PackInput& input, const std::string& folder, PackStats* stats) {
  const auto base = input.index.newest();
  proto::PackIndex index;
  index.root = input.root;
  if (base) index.base = base->record.tree_hash;
  index.extensions = proto::xattr_extension(new_xattr_sets(input.index, input.root.entry));
  FrameFile frames(folder);
  add_tables(input, base, index, frames);

  PackTargets targets;
  {
    PatchEncoder encoder;
    NodeFrames nodes(input.index, [&](NodeFrames::Frame frame) {
      const Bytes stored = encoder.encode(frame.records, frame.prefix, kNodeLevel);
      frame.layout.stored = stored.size();
      frame.layout.raw = frame.records.size();
      index.node_frames.push_back(std::move(frame.layout));
      frames.add(stored);
    });
    nodes.make(base ? &targets : nullptr, index.moves);
  }
  const std::uint64_t node_bytes = frames.size();
  // A first version's contents are fetched by hash: it has no base to make patches against.
  if (base)
    add_contents(input, targets, index, [&](ByteView stored) { frames.add(stored); });
  // Where none of them is named they are not numbered: at a first version it would be all there is.
  if (!index.copies.empty() || !index.groups.empty() || !index.large.empty())
    index.targets = targets.all().size();

  const Bytes raw = proto::encode_pack_index(index);
  if (raw.size() > proto::kMaxPackIndexSize)
    throw std::runtime_error("a delta pack's index would be too large");
  const Bytes stored = PatchEncoder().encode(raw, {}, kIndexLevel);
  Bytes head = proto::encode_pack_header({stored.size(), raw.size()});
  head += stored;

  const std::string path = folder + "/pack.tmp";
  proto::PackRef ref;
  ref.index_size = head.size();
  ref.index_sha256 = proto::sha256(head);
  ref.size = head.size() + frames.size();
  Fd out(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
  if (!out) throw_errno("making " + path);
  write_all(out.get(), head, path);
  proto::Sha256 hash;
  hash.update(head);
  frames.copy_to(out.get(), hash, path);
  ref.sha256 = hash.finish();
  if (::fsync(out.get()) != 0) throw_errno("syncing " + path);
  const std::string name = folder + "/" + proto::to_hex(ref.sha256);
  if (::rename(path.c_str(), name.c_str()) != 0) throw_errno("renaming " + path);
  const Fd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || ::fsync(dir.get()) != 0) throw_errno("syncing " + folder);

  if (stats) {
    stats->node_bytes = node_bytes;
    stats->content_bytes = frames.size() - node_bytes;
    stats->targets = targets.all().size();
    stats->copied = index.copies.size();
    stats->left_out = stats->targets - index.copies.size();
    for (const auto& group : index.groups) stats->left_out -= group.targets.size();
    stats->left_out -= index.large.size();
  }
  return ref;
}

}  // namespace mirrorbus::tree
