// A file system on a recorded disk: mounted to work on, and mounted again as a power cut at some
// moment may have left it. Root only; needs FUSE, loop devices, and the file system's mkfs.
#pragma once

#include "bus/base/fd.hpp"
#include "test/support/block_log.hpp"
#include "test/support/temp_dir.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::test {

// What the shell printed; throws with its complaint if it failed.
inline std::string shell(const std::string& command) {
  std::FILE* pipe = ::popen(("exec 2>&1; " + command).c_str(), "re");
  if (!pipe) base::throw_errno("popen");
  std::string text;
  char buffer[4096];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  if (::pclose(pipe) != 0) throw std::runtime_error(command + ": " + text);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// A loop device on a file, mounted; both until destroyed.
class LoopMount {
 public:
  LoopMount(const std::string& file, const std::string& type, std::string at)
      : at_(std::move(at)), device_(shell("losetup --find --show '" + file + "'")) {
    try {
      if (type == "ext4" && fresh(file)) shell("mkfs.ext4 -q -E nodiscard " + device_);
      if (type == "xfs" && fresh(file)) shell("mkfs.xfs -q -K " + device_);
      shell("mount -t " + type + " " + device_ + " '" + at_ + "'");
    } catch (...) {
      shell("losetup --detach " + device_);
      throw;
    }
  }
  ~LoopMount() {
    if (std::system(("umount '" + at_ + "' && losetup --detach " + device_).c_str()) != 0)
      std::fprintf(stderr, "%s stays mounted\n", at_.c_str());
  }
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

 private:
  // No superblock yet.
  static bool fresh(const std::string& file) {
    char start[4096] = {};
    const base::Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (::pread(fd.get(), start, sizeof start, 0) != sizeof start) base::throw_errno(file);
    return std::string_view(start, sizeof start).find_first_not_of('\0') ==
               std::string_view::npos;
  }

  std::string at_, device_;
};

class RecordedDisk {
 public:
  // `recorder`: the program test/support/disk_recorder.
  RecordedDisk(const std::string& recorder, std::string type, std::uint64_t bytes)
      : type_(std::move(type)), bytes_(bytes) {
    for (const char* name : {"recorder", "mount"}) std::filesystem::create_directory(tmp_ / name);
    const std::string folder = tmp_ / "recorder", backing = tmp_ / "backing", log = log_file(),
                      size = std::to_string(bytes);
    child_ = ::fork();
    if (child_ < 0) base::throw_errno("fork");
    if (child_ == 0) {
      ::execl(recorder.c_str(), recorder.c_str(), folder.c_str(), backing.c_str(), log.c_str(),
              size.c_str(), nullptr);
      ::_exit(127);
    }
    try {
      wait_until_mounted(folder);
      mounted_ = std::make_unique<LoopMount>(folder + "/disk", type_, path());
    } catch (...) {
      end();
      throw;
    }
  }
  ~RecordedDisk() { end(); }

  std::string path() const { return tmp_ / "mount"; }
  // From now on this must survive.
  void mark(const std::string& text) const {
    const base::Fd fd(::open((tmp_ / "recorder/mark").c_str(), O_WRONLY | O_CLOEXEC));
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      base::throw_errno("marking the recorded disk");
  }
  // The last thing to do with it: unmounts it and reads what was recorded.
  std::vector<BlockRecord> log() {
    end();
    return read_block_log(log_file());
  }
  // As `image`, mounted at the same path.
  std::unique_ptr<LoopMount> mount(const DiskImage& image) const {
    const std::string file = tmp_ / "image";
    ::unlink(file.c_str());
    const base::Fd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes_)) != 0) base::throw_errno(file);
    for (const auto& [block, bytes] : image.blocks())
      if (::pwrite(fd.get(), bytes.data(), bytes.size(),
                   static_cast<off_t>(block * DiskImage::kBlock)) !=
          static_cast<ssize_t>(bytes.size()))
        base::throw_errno(file);
    return std::make_unique<LoopMount>(file, type_, path());
  }

 private:
  std::string log_file() const { return tmp_ / "log"; }
  void wait_until_mounted(const std::string& folder) const {
    for (int tries = 0; tries < 1000; ++tries) {
      struct stat st;
      if (::stat((folder + "/disk").c_str(), &st) == 0) return;
      if (::waitpid(child_, nullptr, WNOHANG) == child_) break;
      ::poll(nullptr, 0, 10);
    }
    throw std::runtime_error("the disk recorder does not start");
  }
  void end() {
    mounted_.reset();
    if (child_ <= 0) return;
    ::umount2((tmp_ / "recorder").c_str(), 0);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

  TempDir tmp_;
  std::string type_;
  std::uint64_t bytes_;
  pid_t child_ = -1;
  std::unique_ptr<LoopMount> mounted_;
};

}  // namespace mirrorbus::test
