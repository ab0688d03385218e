#include "services/tree/staging.hpp"

#include "services/tree/file_reader.hpp"
#include "services/tree/sparse.hpp"
#include "services/tree/spool.hpp"

#include <charconv>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Bytes;
using proto::ByteView;
using proto::Hash;

namespace {

const Bytes kDirectory = "staging";
const Bytes kBootFile = "boot";
constexpr std::uint64_t kTellDisk = 16 << 20;

// "<letter><64 digits>.<n>", or without the number for `numbered` false.
bool parse_name(ByteView name, char letter, bool numbered, Hash& hash, std::uint32_t& number) {
  if (name.size() < 65 || name[0] != letter || !proto::from_hex(name.substr(1, 64), hash))
    return false;
  ByteView rest = name.substr(65);
  if (!numbered) return rest.empty();
  if (rest.size() < 2 || rest[0] != '.') return false;
  rest.remove_prefix(1);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  return error == std::errc() && end == rest.data() + rest.size();
}

}  // namespace

Staging::Staging(int work, const EntryOps& ops, std::string boot)
    : ops_(ops), boot_(std::move(boot)) {
  if (::mkdirat(work, kDirectory.c_str(), 0700) != 0 && errno != EEXIST)
    throw_errno("making the staging directory");
  dir_ =
      base::Fd(::openat(work, kDirectory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir_) throw_errno("open the staging directory");
  // A second rename into a staging directory with the setgid bit would inherit its group.
  struct stat st;
  if (::fstat(dir_.get(), &st) != 0) throw_errno("stat the staging directory");
  if ((st.st_mode & 07777) != 0700) ops_.set_mode(dir_.get(), {}, 0700);
}

Bytes Staging::content_name(const Hash& hash, std::uint32_t number) {
  return 'c' + proto::to_hex(hash) + '.' + std::to_string(number);
}
Bytes Staging::link_name(const Hash& hash, std::uint32_t number) {
  return 'l' + proto::to_hex(hash) + '.' + std::to_string(number);
}
Bytes Staging::other_name(std::uint32_t number) {
  return 'n' + std::to_string(number);
}
Bytes Staging::partial_name(const Hash& hash) {
  return 'p' + proto::to_hex(hash);
}
Bytes Staging::trash_name(std::uint32_t number) {
  return 'x' + std::to_string(number);
}

bool Staging::same_boot() const {
  base::Fd file(::openat(dir_.get(), kBootFile.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file || boot_.empty()) return false;
  char noted[64];
  const ssize_t n = ::read(file.get(), noted, sizeof noted);
  return n > 0 && ByteView(noted, static_cast<std::size_t>(n)) == boot_;
}

// Only after everything that is left has been looked at: from here on c names are believed.
void Staging::note_boot() {
  if (same_boot()) return;
  ::unlinkat(dir_.get(), kBootFile.c_str(), 0);
  base::Fd file(::openat(dir_.get(), kBootFile.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) throw_errno("noting the boot in the staging directory");
  write_all_at(file.get(), boot_, 0, "the boot's id");
}

void Staging::sort_leftovers() {
  leftovers_.clear();
  const bool verified = left_in_this_boot_ = same_boot();
  std::uint32_t highest = 0;
  for (const Bytes& name : ops_.list(dir_.get())) {
    if (name == kBootFile) continue;
    Hash hash;
    std::uint32_t number = 0;
    if (parse_name(name, 'c', true, hash, number)) {
      highest = std::max(highest, number);
      if (keep_content(name, hash, verified)) leftovers_[hash].push_back(number);
      continue;
    }
    if (parse_name(name, 'l', true, hash, number)) {
      highest = std::max(highest, number);
      // With another name still in the tree it is found again there. As the last name of its inode
      // (both sides of a swap were being replaced) it is the only copy we have.
      const Bytes content = content_name(hash, number);
      if (keep_content(name, hash, false)) {
        ops_.replace(dir_.get(), name, dir_.get(), content);
        leftovers_[hash].push_back(number);
      }
      continue;
    }
    if (parse_name(name, 'p', false, hash, number)) continue;
    ops_.remove_all(dir_.get(), name);
  }
  next_ = highest + 1;
  note_boot();
}

bool Staging::keep_content(const Bytes& name, const Hash& hash, bool verified) {
  const auto st = ops_.look(dir_.get(), name);
  bool good = st && S_ISREG(st->st_mode) && st->st_nlink == 1;
  if (good && !verified) {
    const auto read = read_file(dir_.get(), name);
    good = read && read->content == hash;
  }
  if (!good) ops_.remove_all(dir_.get(), name);
  return good;
}

std::optional<std::uint32_t> Staging::claim(const Wanted& content) {
  const auto found = leftovers_.find(content.hash);
  if (found == leftovers_.end()) return {};
  while (!found->second.empty()) {
    const std::uint32_t number = found->second.back();
    found->second.pop_back();
    const auto st = ops_.look(dir_.get(), content_name(content.hash, number));
    if (st && static_cast<std::uint64_t>(st->st_size) == content.size_bytes) return number;
  }
  return {};
}

std::uint32_t Staging::put(const Hash& hash, ByteView content) {
  const std::uint32_t number = next_number();
  const Bytes name = content_name(hash, number);
  ops_.mutating("create", name);
  base::Fd file(::openat(dir_.get(), name.c_str(),
                         O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) throw_errno("create " + name + " in the staging directory");
  ops_.mutating("write", name);
  append_sparse(file.get(), content, 0, "a staged file");
  return number;
}

void Staging::clear() {
  leftovers_.clear();
  for (const Bytes& name : ops_.list(dir_.get()))
    if (name != kBootFile) ops_.remove_all(dir_.get(), name);
}

bool Staging::has_part(const Hash& hash) const {
  return ::faccessat(dir(), partial_name(hash).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

StagedFile::StagedFile(Staging& staging, const Wanted& wanted, bool partial)
    : staging_(staging),
      wanted_(wanted),
      partial_(partial),
      name_(partial ? Staging::partial_name(wanted.hash)
                    : 'w' + std::to_string(staging.next_number())) {
  staging_.ops().mutating("create", name_);
  constexpr int kFlags = O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC;
  fd_ = base::Fd(::openat(staging_.dir(), name_.c_str(), kFlags | (partial ? 0 : O_EXCL), 0600));
  if (!fd_) throw_errno("create " + name_ + " in the staging directory");
  if (partial) hash_what_is_there();
}

void StagedFile::hash_what_is_there() {
  struct stat st;
  if (::fstat(fd_.get(), &st) != 0) throw_errno("stat a staged file");
  const auto have = static_cast<std::uint64_t>(st.st_size);
  if (have > wanted_.size_bytes) {
    if (::ftruncate(fd_.get(), 0) != 0) throw_errno("cut a staged file");
    return;
  }
  constexpr std::size_t kChunk = 1024 * 1024;
  while (size_ < have) {
    const auto chunk = std::min<std::uint64_t>(kChunk, have - size_);
    hash_.update(read_exactly_at(fd_.get(), chunk, size_, "a staged file"));
    size_ += chunk;
  }
}

bool StagedFile::clone(int from) {
  if (name_.empty() || ::ioctl(fd_.get(), FICLONE, from) != 0) return false;
  hash_what_is_there();
  return true;
}

StagedFile::~StagedFile() {
  if (partial_ || name_.empty()) return;  // what has come of a large file is kept for the next try
  ::unlinkat(staging_.dir(), name_.c_str(), 0);
}

void StagedFile::discard() {
  fd_ = base::Fd();
  ::unlinkat(staging_.dir(), name_.c_str(), 0);
  name_.clear();
}

bool StagedFile::write(ByteView bytes) {
  if (name_.empty()) return false;
  if (bytes.size() > wanted_.size_bytes - size_) {
    discard();
    return false;
  }
  hash_.update(bytes);
  staging_.ops().mutating("write", name_);
  append_sparse(fd_.get(), bytes, size_, "a staged file");
  size_ += bytes.size();
  if (size_ - told_ >= kTellDisk) {
    // Only a hint: the disk begins now, not when all is synced at the end.
    (void)::sync_file_range(fd_.get(), static_cast<off_t>(told_), static_cast<off_t>(size_ - told_),
                            SYNC_FILE_RANGE_WRITE);
    told_ = size_;
  }
  return true;
}

std::optional<std::uint32_t> StagedFile::finish() {
  if (name_.empty()) return {};
  if (size_ != wanted_.size_bytes) {
    if (!partial_) discard();
    return {};
  }
  if (hash_.finish() != wanted_.hash) {
    discard();
    return {};
  }
  fd_ = base::Fd();
  const std::uint32_t number = staging_.next_number();
  staging_.ops().move_new(staging_.dir(), name_, staging_.dir(),
                          Staging::content_name(wanted_.hash, number));
  name_.clear();
  return number;
}

}  // namespace mirrorbus::tree
