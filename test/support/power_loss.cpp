// Preloaded into a daemon by test/fault/power_loss_test.py: notes everything that the daemon does
// to the files below a directory, and which of it was synced. test/fault/disk_model.py reads the
// notes and says what a disk might hold had the power gone at their end.
//
//   MIRRORBUS_DISK       the directory, absolute, without "/" at its end
//   MIRRORBUS_DISK_LOG   where the notes go: outside of it; appended to
//   MIRRORBUS_DISK_FAIL  optional: while this file is there, the next sync of a file takes it
//                        away, fails with EIO and is noted as failed
//
// A note is five little-endian u64: kind, file, offset or token, size of the first text, size of
// the second; then both texts. Files are numbered by each process from 1. A change and its note are
// made under one lock; a sync is noted when it begins and when it has succeeded, and covers what
// was noted before it began. What this library does not follow (shared writable maps other than
// SQLite's -shm, which is rebuilt after a crash, and calls that nothing here makes) is noted as
// Unknown; descriptors that are duplicated are not noticed.
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

enum class Kind : std::uint64_t {
  Start = 1,  // of a process
  Create,     // file, path
  Known,      // file, path: it was there before
  Write,      // file, offset; nothing; bytes
  Truncate,   // file, size
  Begin,      // file, token: a sync of it
  Synced,     // file, token
  Failed,     // file, token: as if what was to be synced could never be
  BeginDirectory,   // token; path
  SyncedDirectory,  // token; path
  Unlink,     // path
  Rename,     // path; path
  Mkdir,      // path
  Unknown,    // what; path
};

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

std::string text_of(const char* variable) {
  const char* found = std::getenv(variable);
  return found ? found : "";
}

class Notes {
 public:
  // What a descriptor stands for; nothing for what lies elsewhere.
  struct Open {
    std::uint64_t file = 0;  // 0 = a directory
    std::string path;
  };

  Notes()
      : root_(text_of("MIRRORBUS_DISK")),
        fail_(text_of("MIRRORBUS_DISK_FAIL")),
        log_(next<int(const char*, int, ...)>("open64")(text_of("MIRRORBUS_DISK_LOG").c_str(),
                                                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                                                        0600)) {
    if (root_.empty() || log_ < 0) {
      static constexpr std::string_view kSay = "power_loss: MIRRORBUS_DISK or its log is missing\n";
      (void)!::write(2, kSay.data(), kSay.size());
      ::_exit(99);
    }
    note(Kind::Start);
  }

  std::mutex& lock() { return lock_; }
  pid_t process() const { return process_; }
  bool covers(std::string_view path) const {
    return path.starts_with(root_) && (path.size() == root_.size() || path[root_.size()] == '/') &&
           !path.ends_with("-shm");
  }

  void note(Kind kind, std::uint64_t file = 0, std::uint64_t at = 0, std::string_view a = {},
            std::string_view b = {}) {
    const std::uint64_t head[] = {static_cast<std::uint64_t>(kind), file, at, a.size(), b.size()};
    const iovec parts[] = {{const_cast<std::uint64_t*>(head), sizeof head},
                           {const_cast<char*>(a.data()), a.size()},
                           {const_cast<char*>(b.data()), b.size()}};
    const auto wanted = static_cast<ssize_t>(sizeof head + a.size() + b.size());
    // Half a note would make nonsense of all that follow; a process that is killed here may leave
    // one at the very end.
    if (writev_(log_, parts, 3) != wanted) ::abort();
  }

  void opened(int fd, const char* path, bool created) {
    struct stat is {};
    ::fstat(fd, &is);
    if (S_ISDIR(is.st_mode)) {
      open_[fd] = {0, path};
      return;
    }
    std::uint64_t& file = files_[path];
    if (created || file == 0) {
      file = ++numbered_;
      note(created ? Kind::Create : Kind::Known, file, 0, path);
    }
    open_[fd] = {file, path};
  }
  void closed(int fd) { open_.erase(fd); }
  void gone(const std::string& path) { files_.erase(path); }
  void moved(const std::string& from, const std::string& to) {
    if (auto node = files_.extract(from)) {
      files_.erase(to);
      node.key() = to;
      files_.insert(std::move(node));
    }
  }
  const Open* find(int fd) const {
    const auto found = open_.find(fd);
    return found == open_.end() ? nullptr : &found->second;
  }
  std::uint64_t token() { return ++tokens_; }
  // Whether this sync is the one that is to fail.
  bool fails() {
    return !fail_.empty() && ::access(fail_.c_str(), F_OK) == 0 &&
           next<int(const char*)>("unlink")(fail_.c_str()) == 0;
  }

 private:
  ssize_t (*const writev_)(int, const iovec*, int) =
      next<ssize_t(int, const iovec*, int)>("writev");
  const std::string root_, fail_;
  const int log_;
  const pid_t process_ = ::getpid();
  std::mutex lock_;
  std::map<int, Open> open_;
  std::map<std::string, std::uint64_t> files_;
  std::uint64_t numbered_ = 0, tokens_ = 0;
};

// Never destroyed: the daemon closes files until its very end.
Notes& notes() {
  static Notes* const made = new Notes;
  return *made;
}

// Not in what the daemon starts (gpg).
__attribute__((constructor)) void begin() {
  notes();
  ::unsetenv("LD_PRELOAD");
}

int open_at(const char* path, int flags, mode_t mode) {
  static auto* const real = next<int(const char*, int, ...)>("open64");
  Notes& n = notes();
  if (!n.covers(path)) return real(path, flags, mode);
  const std::lock_guard held(n.lock());
  const bool was_there = ::access(path, F_OK) == 0;
  const int fd = real(path, flags, mode);
  if (fd < 0) return fd;
  n.opened(fd, path, !was_there);
  if (was_there && (flags & O_TRUNC)) n.note(Kind::Truncate, n.find(fd)->file, 0);
  return fd;
}

ssize_t write_at(int fd, const void* bytes, size_t size, off64_t offset) {
  static auto* const real = next<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  Notes& n = notes();
  const std::lock_guard held(n.lock());
  const Notes::Open* const open = n.find(fd);
  const ssize_t written = real(fd, bytes, size, offset);
  if (open && written > 0)
    n.note(Kind::Write, open->file, static_cast<std::uint64_t>(offset), {},
           {static_cast<const char*>(bytes), static_cast<std::size_t>(written)});
  return written;
}

int truncate_to(int fd, off64_t size) {
  static auto* const real = next<int(int, off64_t)>("ftruncate64");
  Notes& n = notes();
  const std::lock_guard held(n.lock());
  const Notes::Open* const open = n.find(fd);
  const int done = real(fd, size);
  if (open && done == 0) n.note(Kind::Truncate, open->file, static_cast<std::uint64_t>(size));
  return done;
}

// fsync() too: what else it writes of a file has no place in the notes.
int sync_file(int fd) {
  static auto* const real = next<int(int)>("fdatasync");
  Notes& n = notes();
  Notes::Open open;
  std::uint64_t token = 0;
  {
    const std::lock_guard held(n.lock());
    const Notes::Open* const found = n.find(fd);
    if (!found) return real(fd);
    open = *found;
    token = n.token();
    n.note(open.file ? Kind::Begin : Kind::BeginDirectory, open.file, token,
           open.file ? std::string_view() : open.path);
    if (open.file && n.fails()) {
      n.note(Kind::Failed, open.file, token);
      errno = EIO;
      return -1;
    }
  }
  const int done = real(fd);
  if (done != 0) return done;
  const std::lock_guard held(n.lock());
  n.note(open.file ? Kind::Synced : Kind::SyncedDirectory, open.file, token,
         open.file ? std::string_view() : open.path);
  return 0;
}

template <class Real>
int change_name(Kind kind, const char* path, Real real) {
  Notes& n = notes();
  if (!n.covers(path)) return real();
  const std::lock_guard held(n.lock());
  const int done = real();
  if (done == 0) n.note(kind, 0, 0, path);
  if (done == 0 && kind == Kind::Unlink) n.gone(path);
  return done;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(path, flags, mode);
}

int openat64(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  if (*path == '/' || directory == AT_FDCWD) return open_at(path, flags, mode);
  return next<int(int, const char*, int, ...)>("openat64")(directory, path, flags, mode);
}

int close(int fd) {
  static auto* const real = next<int(int)>("close");
  Notes& n = notes();
  // A child on its way to exec() has the lock as another thread of its parent held it.
  if (::getpid() != n.process()) return real(fd);
  const std::lock_guard held(n.lock());
  n.closed(fd);
  return real(fd);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  return write_at(fd, bytes, size, offset);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static auto* const real = next<ssize_t(int, const void*, size_t)>("write");
  Notes& n = notes();
  bool followed;
  {
    const std::lock_guard held(n.lock());
    followed = n.find(fd) != nullptr;
  }
  // Not under the lock: a pipe may make it wait.
  if (!followed) return real(fd, bytes, size);
  const std::lock_guard held(n.lock());
  const off64_t at = ::lseek64(fd, 0, SEEK_CUR);
  const ssize_t written = real(fd, bytes, size);
  if (written > 0)
    n.note(Kind::Write, n.find(fd)->file, static_cast<std::uint64_t>(at), {},
           {static_cast<const char*>(bytes), static_cast<std::size_t>(written)});
  return written;
}

int ftruncate64(int fd, off64_t size) { return truncate_to(fd, size); }
int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }

int unlink(const char* path) {
  return change_name(Kind::Unlink, path,
                     [path] { return next<int(const char*)>("unlink")(path); });
}

int mkdir(const char* path, mode_t mode) {
  return change_name(Kind::Mkdir, path,
                     [&] { return next<int(const char*, mode_t)>("mkdir")(path, mode); });
}

int rename(const char* from, const char* to) {
  static auto* const real = next<int(const char*, const char*)>("rename");
  Notes& n = notes();
  if (!n.covers(from) && !n.covers(to)) return real(from, to);
  const std::lock_guard held(n.lock());
  const int done = real(from, to);
  if (done == 0) {
    n.note(Kind::Rename, 0, 0, from, to);
    n.moved(from, to);
  }
  return done;
}

void* mmap64(void* at, size_t size, int protection, int flags, int fd, off64_t offset) {
  static auto* const real = next<void*(void*, size_t, int, int, int, off64_t)>("mmap64");
  if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
    Notes& n = notes();
    const std::lock_guard held(n.lock());
    if (const Notes::Open* const open = n.find(fd)) n.note(Kind::Unknown, 0, 0, "mmap", open->path);
  }
  return real(at, size, protection, flags, fd, offset);
}

// Nothing here calls these; should that change, the notes say so instead of being wrong.
#define NOT_FOLLOWED(result, name, parameters, types, arguments)                      \
  result name parameters {                                                           \
    Notes& n = notes();                                                              \
    {                                                                                \
      const std::lock_guard held(n.lock());                                          \
      if (const Notes::Open* const open = n.find(fd))                                \
        n.note(Kind::Unknown, 0, 0, #name, open->path);                              \
    }                                                                                \
    return next<result types>(#name) arguments;                                      \
  }
NOT_FOLLOWED(ssize_t, writev, (int fd, const iovec* parts, int count), (int, const iovec*, int),
             (fd, parts, count))
NOT_FOLLOWED(ssize_t, pwritev64, (int fd, const iovec* parts, int count, off64_t at),
             (int, const iovec*, int, off64_t), (fd, parts, count, at))
NOT_FOLLOWED(int, fallocate64, (int fd, int mode, off64_t at, off64_t size),
             (int, int, off64_t, off64_t), (fd, mode, at, size))
NOT_FOLLOWED(int, posix_fallocate64, (int fd, off64_t at, off64_t size),
             (int, off64_t, off64_t), (fd, at, size))
#undef NOT_FOLLOWED

}  // extern "C"
