#include "services/tree/content_store.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

void each_name(int dir, const std::function<void(const char*)>& visit) {
  const int copy = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, DirCloser> list(copy < 0 ? nullptr : ::fdopendir(copy));
  if (!list) throw_errno("listing the content store");
  while (const dirent* entry = ::readdir(list.get()))
    if (entry->d_name[0] != '.') visit(entry->d_name);
}

// By a name whose object was just looked at: a FIFO or a device is never opened. Our reading must
// not show in access times, where we may prevent that.
Fd open_regular(int dir, const char* name) {
  constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  int fd = ::openat(dir, name, kFlags | O_NOATIME);
  if (fd < 0 && errno == EPERM) fd = ::openat(dir, name, kFlags);
  return Fd(fd);
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}
bool unchanged(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_mode == b.st_mode &&
         a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_size == b.st_size &&
         same_time(a.st_mtim, b.st_mtim) && same_time(a.st_ctim, b.st_ctim);
}
bool same_inode(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
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

// Gives the file behind `fd` a further name.
bool link_file(int fd, int dir, const std::string& name) {
  // With CAP_DAC_READ_SEARCH, which ENOENT says is missing; else by the longer way, through /proc.
  if (::linkat(fd, "", dir, name.c_str(), AT_EMPTY_PATH) == 0) return true;
  if (errno != ENOENT) return false;
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  return ::linkat(AT_FDCWD, self.c_str(), dir, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
}

std::string object_name(const Hash& hash) {
  const std::string hex = proto::to_hex(hash);
  return hex.substr(0, 2) + "/" + hex;
}

HoldResult failed(int error) {
  HoldResult result;
  result.state = error == ENOENT || error == ENOTDIR ? State::Vanished : State::Unreadable;
  if (error == ELOOP || error == ENXIO) result.state = State::NotAFile;
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
  for (unsigned i = 0; i < kWorkers; ++i) {
    list_leftovers(i);
  }
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
void ContentStore::list_leftovers(unsigned worker) {
  const Fd folder = make_dir(objects_.get(), "temp" + std::to_string(worker));
  each_name(folder.get(), [&](const char* name) {
    std::uint64_t number = 0;
    const char* end = name + std::strlen(name);
    if (const auto [at, error] = std::from_chars(name, end, number); error == std::errc() && at == end) {
      swept_later_[worker].push_back(number);
      next_[worker] = std::max(next_[worker], number + 1);
    } else {
      ::unlinkat(folder.get(), name, 0);
    }
  });
}

bool ContentStore::sweep(std::size_t limit) {
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    auto& numbers = swept_later_[worker];
    for (; !numbers.empty(); numbers.pop_back()) {
      if (limit-- == 0) return true;
      remove(temp_name(worker, numbers.back()));
    }
    numbers.shrink_to_fit();
  }
  return false;
}

void ContentStore::remove(const std::string& name) const {
  ::unlinkat(objects_.get(), name.c_str(), 0);
}

void ContentStore::make_shard(const Hash& hash) const {
  const std::string shard = object_name(hash).substr(0, 2);
  if (::mkdirat(objects_.get(), shard.c_str(), 0700) != 0 && errno != EEXIST)
    throw_errno("making a folder of the content store");
}

HoldResult ContentStore::hold(int dir, const Bytes& name, unsigned worker,
                              const std::optional<Before>& before) {
  assert(worker < kWorkers);
  HoldResult result;
  for (int tries = 0; tries < kTries; ++tries) {
    switch (kind_) {
      case StoreKind::Hardlink:
        result = hold_link(dir, name, worker, before);
        break;
      case StoreKind::Reflink:
      case StoreKind::Copy:
        result = hold_copy(dir, name, worker);
        break;
      case StoreKind::Auto:
      case StoreKind::None: {
        Fd fd;
        result = hash_only(dir, name, fd);
        break;
      }
    }
    if (result.state != State::Unstable) break;
  }
  return result;
}

HoldResult ContentStore::hash_only(int dir, const Bytes& name, Fd& fd) {
  HoldResult result;
  struct stat st;
  if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return failed(errno);
  if (!S_ISREG(st.st_mode)) return failed(ENXIO);
  fd = open_regular(dir, name.c_str());
  if (!fd || ::fstat(fd.get(), &st) != 0) return failed(errno);
  if (!S_ISREG(st.st_mode)) return failed(ENXIO);
  const auto hash = hash_file(fd.get(), static_cast<std::uint64_t>(st.st_size));
  if (!hash && errno != 0) return failed(errno);
  if (::fstat(fd.get(), &result.st) != 0) return failed(errno);
  result.found = st.st_ctim;
  result.known = true;
  result.state = hash && unchanged(st, result.st) ? State::Hashed : State::Unstable;
  if (hash) result.hash = *hash;
  return result;
}

// Gives the file behind `fd` its object's name, if that content is not held already. False: the
// filesystem does not let us (too many links, not our file: fs.protected_hardlinks). `expected`: it
// most likely is.
bool ContentStore::take_link(int fd, unsigned worker, bool expected, HoldResult& result) {
  const int at = objects_.get();
  const std::string name = object_name(result.hash);
  const auto link = [&](const std::string& to) { return link_file(fd, at, to); };
  struct stat object;
  if (!expected || ::fstatat(at, name.c_str(), &object, AT_SYMLINK_NOFOLLOW) != 0) {
    result.linked = link(name);
    if (!result.linked && errno == ENOENT) {
      make_shard(result.hash);
      result.linked = link(name);
    }
    if (result.linked) return true;
    if (errno == EPERM || errno == EMLINK || errno == EXDEV || errno == EACCES) return false;
    if (errno == ENOENT) {  // the file has no name any more
      result.state = State::Vanished;
      return true;
    }
    if (errno != EEXIST) throw_errno("taking a link into the content store");
    if (::fstatat(at, name.c_str(), &object, AT_SYMLINK_NOFOLLOW) != 0)
      throw_errno("looking at an object of the content store");
  }
  result.known = true;
  result.linked = same_inode(object, result.st);
  // What only we still hold, and is here again under another inode: an ordinary rsync into the tree
  // makes new inodes for all it touches, which would leave everything there twice.
  if (result.linked || object.st_nlink != 1) return true;
  const std::uint64_t number = next_[worker]++;
  const std::string temp = temp_name(worker, number);
  if (!link(temp)) return true;  // then it is held as it was
  if (::renameat2(at, temp.c_str(), at, name.c_str(), RENAME_EXCHANGE) == 0) {
    result.linked = true;
    swept_later_[worker].push_back(number);
  } else if (errno == EINVAL) {  // a filesystem without the flag
    result.linked = ::renameat(at, temp.c_str(), at, name.c_str()) == 0;
  }
  if (!result.linked) remove(temp);
  return true;
}

HoldResult ContentStore::hold_link(int dir, const Bytes& name, unsigned worker,
                                   const std::optional<Before>& before) {
  Fd fd;
  HoldResult result = hash_only(dir, name, fd);
  if (result.state != State::Hashed) return result;
  const struct stat st = result.st;
  if (before && before->hash != result.hash && before->ino == st.st_ino &&
      before->dev == st.st_dev) {
    // Written in place: the object of what it was is this inode too, and a lie now.
    struct stat object;
    const std::string old = object_name(before->hash);
    if (::fstatat(objects_.get(), old.c_str(), &object, AT_SYMLINK_NOFOLLOW) == 0 &&
        same_inode(object, st))
      remove(old);
  }
  result.known = false;
  const bool expected = before && before->hash == result.hash;
  if (!take_link(fd.get(), worker, expected, result)) {
    result.known = true;
    return result;
  }
  if (result.state == State::Vanished) return result;
  // Links moved the ctime; what changed with it, apart from that, is a writer's doing.
  if (::fstat(fd.get(), &result.st) != 0) return failed(errno);
  const bool still = result.st.st_size == st.st_size && same_time(result.st.st_mtim, st.st_mtim);
  result.state = still ? State::Held : State::Unstable;
  return result;
}

HoldResult ContentStore::hold_copy(int dir, const Bytes& name, unsigned worker) {
  struct stat st;
  if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return failed(errno);
  if (!S_ISREG(st.st_mode)) return failed(ENXIO);
  const Fd from = open_regular(dir, name.c_str());
  if (!from || ::fstat(from.get(), &st) != 0) return failed(errno);
  if (!S_ISREG(st.st_mode)) return failed(ENXIO);

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
  if (kind_ == StoreKind::Reflink && ::ioctl(to.get(), FICLONE, from.get()) == 0)
    hash = hash_file(to.get(), size);
  else
    hash = hash_file(from.get(), size, to.get());
  if (!hash && errno != 0) return failed(errno);
  if (::fstat(from.get(), &result.st) != 0) return failed(errno);
  result.state = State::Unstable;
  if (!hash || !unchanged(st, result.st)) return result;
  result.hash = *hash;
  result.state = State::Held;
  result.known = has(*hash);
  if (!result.known) {
    make_shard(*hash);
    if (::renameat(temps, temp.c_str(), temps, object_name(*hash).c_str()) != 0)
      throw_errno("taking a file into the content store");
    removed.kept = true;
  }
  return result;
}

bool ContentStore::has(const Hash& hash) const {
  struct stat st;
  return ::fstatat(objects_.get(), object_name(hash).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

Fd ContentStore::open(const Hash& hash) const {
  return open_regular(objects_.get(), object_name(hash).c_str());
}

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

void ContentStore::drop(const Hash& hash) {
  remove(object_name(hash));
}

void ContentStore::each(const std::function<void(const Hash&)>& visit) const {
  std::vector<std::string> shards;
  each_name(objects_.get(), [&](const char* name) {
    if (std::string_view(name).size() == 2) shards.emplace_back(name);
  });
  for (const std::string& name : shards) {
    const Fd shard(::openat(objects_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!shard) throw_errno("opening a folder of the content store");
    std::vector<Hash> found;
    each_name(shard.get(), [&](const char* object) {
      if (Hash hash; proto::from_hex(std::string_view(object), hash)) found.push_back(hash);
    });
    for (const Hash& hash : found) visit(hash);
  }
}

}  // namespace mirrorbus::tree
