#include "services/tree/content_store.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "services/tree/entry_ops.hpp"
#include "services/tree/entry_stat.hpp"
#include "services/tree/file_reader.hpp"

#include <cassert>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using base::throw_errno;
using proto::Bytes;
using proto::ByteView;
using proto::Hash;
using State = HoldResult::State;

namespace {

constexpr int kTries = 5;
constexpr std::size_t kChunk = 256 * 1024;

Fd make_dir(int at, const std::string& name) {
  if (::mkdirat(at, name.c_str(), 0700) != 0 && errno != EEXIST) throw_errno("making " + name);
  Fd dir(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) throw_errno("opening " + name);
  return dir;
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}
bool unchanged(const struct stat& a, const struct stat& b) {
  return same_inode(a, b) && a.st_mode == b.st_mode && a.st_uid == b.st_uid &&
         a.st_gid == b.st_gid && a.st_size == b.st_size && same_time(a.st_mtim, b.st_mtim) &&
         same_time(a.st_ctim, b.st_ctim);
}

// The hash of `size` bytes, which is all there is if fstat says so afterwards; nothing with errno 0
// if there were fewer. `copy`, unless -1, gets the bytes.
std::optional<Hash> hash_file(int fd, std::uint64_t size, int copy = -1) {
  thread_local const std::unique_ptr<char[]> buffer(new char[kChunk]);
  proto::Sha256 hash;
  errno = 0;
  for (std::uint64_t at = 0; at < size;) {
    const ssize_t n = ::pread(fd, buffer.get(), kChunk, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::nullopt;
    hash.update({buffer.get(), static_cast<std::size_t>(n)});
    at += static_cast<std::uint64_t>(n);
    for (ssize_t done = 0; copy >= 0 && done < n;) {
      const ssize_t written =
          ::write(copy, buffer.get() + done, static_cast<std::size_t>(n - done));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw_errno("writing to the content store");
      done += written;
    }
  }
  return hash.finish();
}

std::string temp_name(unsigned worker, std::uint64_t number) {
  return "temp" + std::to_string(worker) + "/" + std::to_string(number);
}

HoldResult failed(int error) {
  HoldResult result;
  result.state = error == ENOENT || error == ENOTDIR ? State::Vanished : State::Unreadable;
  if (error == ELOOP || error == ENXIO || error == EINVAL) result.state = State::NotAFile;
  result.error = error;
  return result;
}

}  // namespace

std::optional<StoreKind> store_kind(std::string_view name) {
  for (const auto kind : {StoreKind::Auto, StoreKind::Reflink, StoreKind::Hardlink,
                          StoreKind::Copy, StoreKind::None})
    if (to_string(kind) == name) return kind;
  return std::nullopt;
}

std::string_view to_string(StoreKind kind) {
  switch (kind) {
    case StoreKind::Auto: return "auto";
    case StoreKind::Reflink: return "reflink";
    case StoreKind::Hardlink: return "hardlink";
    case StoreKind::Copy: return "copy";
    case StoreKind::None: return "none";
  }
  return "none";
}

ContentStore::ContentStore(const std::string& folder, const std::string& tree_path,
                           StoreKind wanted)
    : folder_(folder) {
  objects_ = make_dir(AT_FDCWD, folder);
  names_.emplace(objects_.get());
  for (unsigned i = 0; i < kWorkers; ++i) remove_leftovers(i);
  if (wanted == StoreKind::None || wanted == StoreKind::Copy) {
    kind_ = wanted;
    reason_ = "as configured";
    return;
  }
  std::string why;
  for (const StoreKind kind : {StoreKind::Reflink, StoreKind::Hardlink}) {
    if (wanted != StoreKind::Auto && wanted != kind) continue;
    if (works(kind, tree_path, why)) {
      kind_ = kind;
      reason_ = why.empty() ? "tried and it works" : why + "; " + std::string(to_string(kind)) +
                                                         " works";
      return;
    }
  }
  if (wanted != StoreKind::Auto)
    throw std::runtime_error("store = \"" + std::string(to_string(wanted)) + "\" does not work: " +
                             why);
  reason_ = why + "; patches will have no bases (set store = \"copy\" to keep copies)";
}

// Tries it with a real file of the tree: sysctl fs.protected_hardlinks, quotas and odd filesystems
// say no only then. A link moves that file's ctime, so a small one is taken.
bool ContentStore::works(StoreKind kind, const std::string& tree_path, std::string& why) {
  namespace fs = std::filesystem;
  std::string sample;
  std::uintmax_t smallest = UINTMAX_MAX;
  std::error_code error;
  int looked = 0;
  for (fs::recursive_directory_iterator it(tree_path,
                                           fs::directory_options::skip_permission_denied, error),
       end;
       !error && it != end && looked < 1000; it.increment(error), ++looked) {
    std::error_code ignored;
    if (it->path().filename() == fs::path(proto::kWorkFolderName)) it.disable_recursion_pending();
    if (it->symlink_status(ignored).type() != fs::file_type::regular) continue;
    const auto size = it->file_size(ignored);
    if (ignored || size >= smallest) continue;
    smallest = size;
    sample = it->path();
  }
  const std::string temp = temp_name(0, next_[0]++);
  if (sample.empty()) {  // nothing to try it with but our own
    sample = folder_ + "/temp0/sample";
    const Fd made(::open(sample.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  int code = 0;
  if (kind == StoreKind::Hardlink) {
    if (::linkat(AT_FDCWD, sample.c_str(), objects_.get(), temp.c_str(), 0) != 0) code = errno;
  } else {
    const Fd from(::open(sample.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    const Fd to(::openat(objects_.get(), temp.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
    if (!from || !to || ::ioctl(to.get(), FICLONE, from.get()) != 0) code = errno;
  }
  remove(temp);
  remove("temp0/sample");
  if (code == 0) return true;
  if (!why.empty()) why += ", ";
  why += std::string(to_string(kind)) + ": " + std::generic_category().message(code);
  return false;
}

// What a crash left in a worker's directory.
void ContentStore::remove_leftovers(unsigned worker) {
  const std::string name = "temp" + std::to_string(worker);
  const Fd folder = make_dir(objects_.get(), name);
  for (const Bytes& left : EntryOps().list(folder.get())) remove(name + "/" + left);
}

void ContentStore::remove(const std::string& name) const {
  ::unlinkat(objects_.get(), name.c_str(), 0);
}

HoldResult ContentStore::hold(int dir, const Bytes& name, unsigned worker,
                              const std::optional<Before>& before) {
  assert(worker < kWorkers);
  HoldResult result;
  for (int tries = 0; tries < kTries; ++tries) {
    switch (kind_) {
      case StoreKind::Hardlink:
        result = hold_link(dir, name, before);
        break;
      case StoreKind::Reflink:
      case StoreKind::Copy:
        result = hold_copy(dir, name, worker);
        break;
      case StoreKind::Auto:
      case StoreKind::None: {
        Fd fd;
        result = hash_only(dir, name, fd);
        if (result.state == State::Hashed && !look_once_more(fd.get(), result))
          result = failed(errno);
        break;
      }
    }
    if (result.state != State::Unstable) break;
  }
  return result;
}

HoldResult ContentStore::hash_only(int dir, const Bytes& name, Fd& fd) {
  HoldResult result;
  auto file = open_file(dir, name);
  if (!file) return failed(errno);
  fd = std::move(file->fd);
  const struct stat& st = file->st;
  const auto hash = hash_file(fd.get(), static_cast<std::uint64_t>(st.st_size));
  if (!hash && errno != 0) return failed(errno);
  if (::fstat(fd.get(), &result.st) != 0) return failed(errno);
  result.found = st.st_ctim;
  result.known = true;
  result.state = hash && unchanged(st, result.st) ? State::Hashed : State::Unstable;
  if (hash) result.hash = *hash;
  return result;
}

// As it was left, and what it has beside its content. A link of ours has moved the ctime since it was
// hashed; what changed with it, apart from that, is a writer's doing, and unstable.
bool ContentStore::look_once_more(int fd, HoldResult& result) {
  const struct stat hashed = result.st;
  if (::fstat(fd, &result.st) != 0) return false;
  const ssize_t attributes = ::flistxattr(fd, nullptr, 0);
  result.bare = attributes == 0 || (attributes < 0 && errno == ENOTSUP);
  const bool still =
      result.st.st_size == hashed.st_size && same_time(result.st.st_mtim, hashed.st_mtim);
  if (!still) result.state = State::Unstable;
  return true;
}

// Gives the file behind `fd` its object's name, if that content is not held already. False: the
// filesystem does not let us (too many links, not our file: fs.protected_hardlinks). `expected`: it
// most likely is.
bool ContentStore::take_link(int fd, bool expected, HoldResult& result) {
  std::optional<ObjectNames::Found> object;
  if (expected || names_->any_second()) object = names_->find(result.hash);
  if (!object) {
    const int error = names_->link(fd, result.hash, ObjectNames::Place::First);
    result.linked = error == 0;
    if (result.linked) return true;
    if (error == EPERM || error == EMLINK || error == EXDEV || error == EACCES) return false;
    if (error == ENOENT) {  // the file has no name any more
      result.state = State::Vanished;
      return true;
    }
    if (error != EEXIST) throw_errno("taking a link into the content store", error);
    object = names_->find(result.hash);
    if (!object) return false;  // another worker just found it to be a lie
  }
  result.known = true;
  // What only we still hold, and is here again under another inode: an ordinary rsync into the tree
  // makes new inodes for all it touches, which would leave everything there twice.
  if (same_inode(object->st, result.st))
    result.linked = true;
  else if (object->st.st_nlink == 1)
    result.linked = names_->supersede(fd, result.st, result.hash, *object);
  else
    result.linked = names_->any_second() && names_->is(result.hash, result.st);
  return true;
}

HoldResult ContentStore::hold_link(int dir, const Bytes& name, const std::optional<Before>& before) {
  Fd fd;
  HoldResult result = hash_only(dir, name, fd);
  if (result.state != State::Hashed) return result;
  if (before && before->hash != result.hash && before->ino == result.st.st_ino &&
      before->dev == result.st.st_dev)
    // Written in place: the object of what it was is this inode too, and a lie now.
    names_->remove_inode(before->hash, result.st);
  result.known = false;
  const bool expected = before && before->hash == result.hash;
  // (An inode with several names is linked at once: all of them would have to be looked up later.)
  result.late =
      expected && before->held && before->ino != result.st.st_ino && result.st.st_nlink == 1;
  return hold_read(fd.get(), expected, std::move(result));
}

// The rest, for a content that is known.
HoldResult ContentStore::hold_read(int fd, bool expected, HoldResult result) {
  if (result.late || take_link(fd, expected, result)) {
    if (result.state == State::Vanished) return result;
    result.state = State::Held;
    result.known |= result.late;
  } else {
    result.known = true;
  }
  if (!look_once_more(fd, result)) return failed(errno);
  return result;
}

HoldResult ContentStore::hold_hashed(int fd, const struct stat& st, const Hash& hash) {
  HoldResult result;
  result.state = State::Hashed;
  result.hash = hash;
  result.st = st;
  result.found = st.st_ctim;
  return kind_ == StoreKind::Hardlink ? hold_read(fd, true, std::move(result)) : result;
}

HoldResult ContentStore::hold_copy(int dir, const Bytes& name, unsigned worker) {
  const auto file = open_file(dir, name);
  if (!file) return failed(errno);
  const int from = file->fd.get();
  const struct stat& st = file->st;

  const std::string temp = temp_name(worker, next_[worker]++);
  const int temps = objects_.get();
  const Fd to(::openat(temps, temp.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!to) throw_errno("making a file in the content store");
  struct Removed {
    int dir;
    const std::string& name;
    bool kept = false;
    ~Removed() {
      if (!kept) ::unlinkat(dir, name.c_str(), 0);
    }
  } removed{temps, temp};

  HoldResult result;
  result.found = st.st_ctim;
  const auto size = static_cast<std::uint64_t>(st.st_size);
  std::optional<Hash> hash;
  if (kind_ == StoreKind::Reflink && ::ioctl(to.get(), FICLONE, from) == 0)
    hash = hash_file(to.get(), size);
  else
    hash = hash_file(from, size, to.get());
  if (!hash && errno != 0) return failed(errno);
  if (::fstat(from, &result.st) != 0) return failed(errno);
  result.state = State::Unstable;
  if (!hash || !unchanged(st, result.st)) return result;
  result.hash = *hash;
  result.state = State::Held;
  result.known = has(*hash);
  if (!result.known) {
    names_->move(temps, temp, *hash);
    removed.kept = true;
  }
  if (!look_once_more(from, result)) return failed(errno);
  return result;
}

bool ContentStore::has(const Hash& hash) const { return names_->find(hash).has_value(); }

Fd ContentStore::open(const Hash& hash) const { return names_->open(hash); }

std::optional<Bytes> ContentStore::read(const Hash& hash, std::uint64_t size) {
  const Fd fd = open(hash);
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0) return std::nullopt;
  Bytes bytes;
  if (static_cast<std::uint64_t>(st.st_size) == size) {
    bytes.resize(size);
    for (std::size_t have = 0; have < size;) {
      const ssize_t n =
          ::pread(fd.get(), bytes.data() + have, size - have, static_cast<off_t>(have));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return std::nullopt;
      have += static_cast<std::size_t>(n);
    }
    if (proto::sha256(bytes) == hash) return bytes;
  }
  drop(hash);
  return std::nullopt;
}

void ContentStore::drop(const Hash& hash) { names_->remove(hash); }

void ContentStore::each(const std::function<void(const Hash&)>& visit) const { names_->each(visit); }

}  // namespace mirrorbus::tree
