// A disk that remembers everything that was written to it, in order: a FUSE filesystem of two files.
//
//   disk-recorder MOUNTPOINT BACKING LOG BYTES
//
// `disk` is for a loop device; each write and each flush goes to LOG. What is written to `mark` goes
// there too: by it the user of the disk says what it has been told is durable. Ends when unmounted.
// Format of LOG: see test/support/block_log.hpp.
#define FUSE_USE_VERSION 31
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <fuse3/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

int backing = -1;
std::FILE* log_file = nullptr;
off_t disk_size = 0;

void note(char kind, std::uint64_t offset, const char* data, std::uint64_t size) {
  const std::uint64_t head[2] = {offset, size};
  if (std::fputc(kind, log_file) == EOF || std::fwrite(head, sizeof head, 1, log_file) != 1 ||
      std::fwrite(data, 1, size, log_file) != size) {
    std::perror("disk-recorder: the log");
    std::abort();
  }
}

bool is(const char* path, const char* name) { return std::strcmp(path, name) == 0; }

int get_attributes(const char* path, struct stat* st, fuse_file_info*) {
  *st = {};
  st->st_nlink = 1;
  if (is(path, "/")) {
    st->st_mode = S_IFDIR | 0700;
    st->st_nlink = 2;
  } else if (is(path, "/disk") || is(path, "/mark")) {
    st->st_mode = S_IFREG | 0600;
    st->st_size = is(path, "/disk") ? disk_size : 0;
  } else {
    return -ENOENT;
  }
  return 0;
}

int open_file(const char* path, fuse_file_info* file) {
  if (!is(path, "/disk") && !is(path, "/mark")) return -ENOENT;
  file->direct_io = 1;  // nothing is kept back or put together by a cache
  return 0;
}

int read_disk(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info*) {
  if (!is(path, "/disk")) return 0;
  const ssize_t n = ::pread(backing, buffer, size, offset);
  return n < 0 ? -errno : static_cast<int>(n);
}

int write_disk(const char* path, const char* data, std::size_t size, off_t offset,
               fuse_file_info*) {
  if (is(path, "/mark")) {
    note('m', 0, data, size);
    return static_cast<int>(size);
  }
  const ssize_t n = ::pwrite(backing, data, size, offset);
  if (n < 0) return -errno;
  note('w', static_cast<std::uint64_t>(offset), data, static_cast<std::uint64_t>(n));
  return static_cast<int>(n);
}

int flush_disk(const char* path, int, fuse_file_info*) {
  if (is(path, "/disk")) note('f', 0, nullptr, 0);
  return 0;
}

int truncate_file(const char* path, off_t, fuse_file_info*) {
  return is(path, "/mark") ? 0 : -EPERM;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: disk-recorder MOUNTPOINT BACKING LOG BYTES\n");
    return 2;
  }
  disk_size = std::atoll(argv[4]);
  backing = ::open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  log_file = std::fopen(argv[3], "wb");
  if (backing < 0 || ::ftruncate(backing, disk_size) != 0 || !log_file) {
    std::perror("disk-recorder");
    return 1;
  }
  fuse_operations operations{};
  operations.getattr = get_attributes;
  operations.open = open_file;
  operations.read = read_disk;
  operations.write = write_disk;
  operations.fsync = flush_disk;
  operations.truncate = truncate_file;
  // One thread: the order in the log is the order of things. In the foreground: whoever started it waits.
  std::string arguments[] = {argv[0], "-s", "-f", argv[1]};
  char* words[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                   arguments[3].data()};
  const int result = fuse_main(4, words, &operations, nullptr);
  if (std::fclose(log_file) != 0) return 1;
  return result;
}
