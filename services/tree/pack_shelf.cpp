#include "services/tree/pack_shelf.hpp"

#include "services/tree/entry_ops.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/spool.hpp"

#include <unordered_set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;

namespace {

constexpr const char* kComing = ".part";  // behind the name of a pack that is not whole yet

// A pack on its way into a file.
class PackSink : public ContentSink {
 public:
  PackSink(int fd, std::uint64_t offset, std::uint64_t size) : fd_(fd), at_(offset), size_(size) {}
  void begin(const Hash&) override {}
  void write(ByteView bytes) override {
    if (bytes.size() > size_ - at_) {
      at_ = size_ + 1;  // more than signed
      return;
    }
    write_all_at(fd_, bytes, at_, "a delta pack");
    at_ += bytes.size();
  }
  void end() override {}
  void gone(const Hash&, const std::string&) override {}

 private:
  int fd_;
  std::uint64_t at_, size_;
};

std::uint64_t size_of(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) throw_errno("stat a delta pack");
  return static_cast<std::uint64_t>(st.st_size);
}

}  // namespace

PackShelf::PackShelf(int work) {
  if (::mkdirat(work, "packs", 0700) != 0 && errno != EEXIST) throw_errno("make the pack folder");
  folder_ = base::Fd(::openat(work, "packs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder_) throw_errno("open the pack folder");
}

// One that came whole before. Hashed again: its name may be on disk and its bytes not.
base::Fd PackShelf::kept(const proto::PackRef& pack) {
  const Bytes name = to_hex(pack.sha256);
  base::Fd file(::openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file) return {};
  if (size_of(file.get()) == pack.size && hash_of_file(file.get(), pack.size, name) == pack.sha256)
    return file;
  ::unlinkat(folder_.get(), name.c_str(), 0);
  return {};
}

base::Fd PackShelf::fetch(const proto::PackRef& pack, ContentSource& source) {
  if (base::Fd file = kept(pack)) return file;
  const Bytes name = to_hex(pack.sha256), coming = name + kComing;
  base::Fd file(
      ::openat(folder_.get(), coming.c_str(), O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) throw_errno("open " + coming + " in the pack folder");
  std::uint64_t have = size_of(file.get());
  bool all_new = have == 0;  // nothing of an interrupted transfer, which may be damaged, is in it
  // Once more than there are places.
  for (std::size_t round = 0; round <= source.places(); ++round) {
    if (have < pack.size) {
      PackSink sink(file.get(), have, pack.size);
      source.fetch_pack({pack.sha256, pack.size}, have, sink);
      const std::uint64_t now = size_of(file.get());
      if (now == have) return {};  // not to be had
      have = now;
    }
    if (have == pack.size && hash_of_file(file.get(), pack.size, name) == pack.sha256) {
      EntryOps().replace(folder_.get(), coming, folder_.get(), name);
      return file;
    }
    if (have >= pack.size) {
      if (all_new)
        source.bad(pack.sha256, proto::Reject::BadHash, "is not the pack that was signed");
      if (::ftruncate(file.get(), 0) != 0) throw_errno("empty a pack");
      have = 0;
      all_new = true;
    }
  }
  if (have > 0)
    source.bad(pack.sha256, proto::Reject::Truncated, "is only the beginning of a pack");
  return {};
}

void PackShelf::remove(const Hash& pack) { EntryOps().unlink(folder_.get(), to_hex(pack)); }

void PackShelf::drop_unfinished() {
  const EntryOps ops;
  for (const Bytes& name : ops.list(folder_.get()))
    if (name.ends_with(kComing)) ops.unlink(folder_.get(), name);
}

void PackShelf::tidy(const Index& index, std::uint64_t max_bytes) {
  const auto numbers = index.version_numbers();
  std::unordered_set<Bytes> kept;
  std::uint64_t bytes = 0;
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    const auto version = index.version(*number);
    if (!version || !version->pack) continue;
    bytes += version->pack->size;
    // A chain with a hole leads nowhere: what is older than the first that does not fit goes, too.
    if (bytes > max_bytes) break;
    kept.insert(to_hex(version->pack->sha256));
  }
  const EntryOps ops;
  for (const Bytes& name : ops.list(folder_.get())) {
    Hash hash;
    if (proto::from_hex(name, hash) && !kept.contains(name)) ops.unlink(folder_.get(), name);
  }
}

}  // namespace mirrorbus::tree
