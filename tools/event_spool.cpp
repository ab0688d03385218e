#include "tools/event_spool.hpp"

#include "proto/limits.hpp"
#include "proto/value.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace mirrorbus::tools {
namespace {

constexpr std::string_view kWaiting = ".event", kRefused = ".refused";
constexpr const char* kUnfinished = ".unfinished";
constexpr int kDigits = 20;

void append(proto::Bytes& file, const proto::Submission& submission) {
  const proto::Bytes event = proto::pack(proto::Map{{"v", 1},
                                                    {"sender", proto::Binary{submission.sender}},
                                                    {"n", submission.n},
                                                    {"topic", submission.topic},
                                                    {"body", proto::Binary{submission.body}}});
  for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(event.size() >> shift);
  file += event;
}

proto::Decoded<std::vector<proto::Submission>> decode(proto::ByteView file) {
  std::vector<proto::Submission> submissions;
  while (!file.empty()) {
    if (file.size() < 4) return proto::refuse(proto::Reject::Truncated);
    std::size_t size = 0;
    for (int i = 0; i < 4; ++i) size = size << 8 | static_cast<unsigned char>(file[i]);
    if (size > file.size() - 4) return proto::refuse(proto::Reject::Truncated);
    const auto map = proto::unpack(file.substr(4, size));
    if (!map) return proto::refuse(map.error());
    if (proto::field<std::uint64_t>(*map, "v") != 1u)
      return proto::refuse(proto::Reject::BadVersion);
    auto submission = proto::submission(*map);
    if (!submission) return proto::refuse(submission.error());
    submissions.push_back(std::move(*submission));
    file.remove_prefix(4 + size);
  }
  return submissions;
}

std::uint64_t digits_at(const std::string& name, std::size_t begin) {
  std::uint64_t number = 0;
  std::from_chars(name.data() + std::min(begin, name.size()), name.data() + name.size(), number);
  return number;
}
std::uint64_t number_of(const std::string& name) { return digits_at(name, 0); }
std::uint64_t events_of(const std::string& name) { return digits_at(name, kDigits + 1); }

// Changes whenever a file comes or goes.
std::string stamp_of(int directory) {
  struct stat st;
  if (fstat(directory, &st) != 0) base::throw_errno("looking at the spool");
  return fmt::format("{}.{}", st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

}  // namespace

EventSpool::EventSpool(std::string directory, std::uint64_t limit)
    : directory_(std::move(directory)), limit_(limit) {
  const bool made = ::mkdir(directory_.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) base::throw_errno("making the spool " + directory_);
  fd_ = base::Fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd_) base::throw_errno("opening the spool " + directory_);
  if (!made) return;
  const base::Fd above(::openat(fd_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!above || ::fsync(above.get()) != 0)
    base::throw_errno("syncing the directory above " + directory_);
}

EventSpool::Files EventSpool::files(bool refused_too) const {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(directory_.c_str()), closedir);
  if (!listing) base::throw_errno("listing the spool " + directory_);
  Files files;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string name = entry->d_name;
    struct stat st;
    if (name.ends_with(kWaiting) || (refused_too && name.ends_with(kRefused)))
      if (fstatat(fd_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
        files[name] = static_cast<std::uint64_t>(st.st_size);
  }
  return files;
}

std::uint64_t EventSpool::count() const {
  std::uint64_t events = 0;
  for (const auto& [name, size] : files(false)) events += events_of(name);
  return events;
}

base::Fd EventSpool::lock(const char* name, bool wait) const {
  base::Fd file(::openat(fd_.get(), name, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) base::throw_errno("opening " + directory_ + "/" + name);
  while (::flock(file.get(), wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return {};
    if (errno != EINTR) base::throw_errno("locking " + directory_ + "/" + name);
  }
  return file;
}

void EventSpool::sync() const {
  if (::fsync(fd_.get()) != 0) base::throw_errno("syncing the spool " + directory_);
}

// False: there is such a file.
bool EventSpool::write(const std::string& name, proto::ByteView bytes) {
  const std::string path = directory_ + "/" + name;
  // Overwrites what a process that was killed has left: the lock is ours.
  const base::Fd file(::openat(fd_.get(), kUnfinished,
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) base::throw_errno("creating " + path);
  for (proto::ByteView rest = bytes; !rest.empty();) {
    const ssize_t written = ::write(file.get(), rest.data(), rest.size());
    if (written > 0)
      rest.remove_prefix(static_cast<std::size_t>(written));
    else if (written == 0 || errno != EINTR)
      base::throw_errno("writing " + path);
  }
  if (::fsync(file.get()) != 0) base::throw_errno("syncing " + path);
  if (::renameat2(fd_.get(), kUnfinished, fd_.get(), name.c_str(), RENAME_NOREPLACE) == 0)
    return true;
  if (errno != EEXIST) base::throw_errno("writing " + path);
  return false;
}

void EventSpool::look() {
  used_ = 0;
  for (const auto& [name, size] : files(true)) {
    used_ += size;
    next_ = std::max(next_, number_of(name) + 1);
  }
}

void EventSpool::put(std::span<const proto::Submission> submissions) {
  const base::Fd held = lock(".put", true);
  if (seen_ != stamp_of(fd_.get())) look();
  proto::Bytes file;
  for (const proto::Submission& submission : submissions) append(file, submission);
  if (used_ + file.size() > limit_)
    throw SpoolFull(
        fmt::format("the spool {} is full: {} bytes of at most {}", directory_, used_, limit_));
  // Two changes within one tick of the clock leave one change time: then the number may be taken.
  while (!write(fmt::format("{:0{}}-{}{}", next_++, kDigits, submissions.size(), kWaiting), file))
    look();
  sync();
  used_ += file.size();
  seen_ = stamp_of(fd_.get());
}

std::optional<EventSpool::Emptying> EventSpool::try_emptying() {
  base::Fd held = lock(".empty", false);
  if (!held) return std::nullopt;
  return Emptying(*this, std::move(held));
}

std::optional<std::string> EventSpool::Emptying::first() {
  if (waiting_.empty()) waiting_ = spool_.files(false);
  if (waiting_.empty()) {
    const base::Fd held = spool_.lock(".put", true);
    waiting_ = spool_.files(false);
    if (waiting_.empty()) {
      lock_ = base::Fd();
      return std::nullopt;
    }
  }
  return waiting_.begin()->first;
}

proto::Decoded<std::vector<proto::Submission>> EventSpool::Emptying::read(
    const std::string& name) const {
  const base::Fd file(::openat(spool_.fd_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) base::throw_errno("opening " + spool_.directory_ + "/" + name);
  proto::Bytes bytes(waiting_.at(name), '\0');
  std::size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + size, bytes.size() - size);
    if (got == 0) break;
    if (got < 0 && errno != EINTR) base::throw_errno("reading " + spool_.directory_ + "/" + name);
    if (got > 0) size += static_cast<std::size_t>(got);
  }
  bytes.resize(size);
  return decode(bytes);
}

void EventSpool::Emptying::remove(const std::string& name) {
  if (::unlinkat(spool_.fd_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
    base::throw_errno("removing " + spool_.directory_ + "/" + name);
  waiting_.erase(name);
}

void EventSpool::Emptying::set_aside(const std::string& name) {
  const std::string aside = name.substr(0, name.size() - kWaiting.size()) + std::string(kRefused);
  if (::renameat(spool_.fd_.get(), name.c_str(), spool_.fd_.get(), aside.c_str()) != 0)
    base::throw_errno("renaming " + spool_.directory_ + "/" + name);
  waiting_.erase(name);
  spool_.sync();
}

}  // namespace mirrorbus::tools
