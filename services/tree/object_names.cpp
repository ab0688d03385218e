#include "services/tree/object_names.hpp"

#include "services/tree/entry_ops.hpp"
#include "services/tree/entry_stat.hpp"
#include "services/tree/file_reader.hpp"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using base::throw_errno;
using proto::Bytes;
using proto::Hash;

namespace {

using Place = ObjectNames::Place;

constexpr Place other(Place place) { return place == Place::First ? Place::Second : Place::First; }

void make_folder(int at, const std::string& path) {
  if (::mkdirat(at, path.c_str(), 0700) != 0 && errno != EEXIST)
    throw_errno("making a folder of the content store");
}

void make_shard(int folder, const Hash& hash, Place place) {
  if (place == Place::Second) make_folder(folder, ObjectNames::kSecond);
  const std::string path = ObjectNames::path(hash, place);
  make_folder(folder, path.substr(0, path.rfind('/')));
}

// Calls `visit` for every hash that is a name in that folder, if there is such a folder.
void each_in(int folder, const std::string& path, const std::function<void(const Hash&)>& visit) {
  const Fd shard(::openat(folder, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!shard && errno == ENOENT) return;
  if (!shard) throw_errno("opening a folder of the content store");
  for (const Bytes& name : EntryOps().list(shard.get()))
    if (Hash hash; proto::from_hex(std::string_view(name), hash)) visit(hash);
}

int link_file(int fd, int dir, const std::string& name) {
  // With CAP_DAC_READ_SEARCH, which ENOENT says is missing (as it does of a folder that is); else by
  // the longer way, through /proc.
  if (::linkat(fd, "", dir, name.c_str(), AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOENT) return errno;
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  return ::linkat(AT_FDCWD, self.c_str(), dir, name.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

std::string hex_byte(unsigned byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  return {kDigits[byte >> 4], kDigits[byte & 15]};
}

}  // namespace

std::string ObjectNames::path(const Hash& hash, Place place) {
  const std::string hex = proto::to_hex(hash);
  std::string path = place == Place::First ? "" : std::string(kSecond) + "/";
  return path.append(hex, 0, 2).append("/").append(hex);
}

ObjectNames::ObjectNames(int folder) : folder_(folder) {
  any_second_ = ::faccessat(folder, kSecond, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  // What was superseded before the last end is not known.
  for (auto& each : unsettled_) each = any_second_.load();
}

std::optional<struct stat> ObjectNames::look(const Hash& hash, Place place) const {
  struct stat st;
  if (::fstatat(folder_, path(hash, place).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return st;
  return std::nullopt;
}

std::optional<ObjectNames::Found> ObjectNames::find(const Hash& hash) const {
  if (const auto st = look(hash, Place::First)) return Found{Place::First, *st};
  if (any_second_)
    if (const auto st = look(hash, Place::Second)) return Found{Place::Second, *st};
  return std::nullopt;
}

bool ObjectNames::is(const Hash& hash, const struct stat& inode) const {
  const auto first = look(hash, Place::First);
  if (first && same_inode(*first, inode)) return true;
  const auto second = any_second_ ? look(hash, Place::Second) : std::nullopt;
  return second && same_inode(*second, inode);
}

Fd ObjectNames::open(const Hash& hash) const {
  auto file = open_file(folder_, path(hash));
  if (!file && any_second_) file = open_file(folder_, path(hash, Place::Second));
  return file ? std::move(file->fd) : Fd();
}

int ObjectNames::link(int fd, const Hash& hash, Place place) {
  const std::string name = path(hash, place);
  int error = link_file(fd, folder_, name);
  if (error == ENOENT) {
    make_shard(folder_, hash, place);
    error = link_file(fd, folder_, name);
  }
  if (error == 0 && place == Place::Second) any_second_ = true;
  return error;
}

void ObjectNames::move(int dir, const std::string& name, const Hash& hash) {
  make_shard(folder_, hash, Place::First);
  if (::renameat(dir, name.c_str(), folder_, path(hash).c_str()) != 0)
    throw_errno("taking a file into the content store");
}

bool ObjectNames::supersede(int fd, const struct stat& inode, const Hash& hash,
                            const Found& found) {
  int error = link(fd, hash, other(found.place));
  if (error == EEXIST) {
    const std::lock_guard lock(both_);
    if (is(hash, inode)) return true;
    // It came a third time before the first was dropped.
    settle(hash);
    error = link(fd, hash, Place::First);
    if (error == EEXIST) error = link(fd, hash, Place::Second);
  }
  if (error == 0) unsettled_[hash.octets[0]] = true;
  return error == 0;
}

void ObjectNames::remove(const Hash& hash) {
  ::unlinkat(folder_, path(hash).c_str(), 0);
  if (any_second_) ::unlinkat(folder_, path(hash, Place::Second).c_str(), 0);
}

void ObjectNames::remove_inode(const Hash& hash, const struct stat& inode) {
  for (const Place place : {Place::First, Place::Second})
    if (const auto st = look(hash, place); st && same_inode(*st, inode))
      ::unlinkat(folder_, path(hash, place).c_str(), 0);
}

void ObjectNames::settle(const Hash& hash) {
  const auto first = look(hash, Place::First), second = look(hash, Place::Second);
  if (!first || !second) return;
  if (first->st_nlink == 1)
    ::unlinkat(folder_, path(hash, Place::First).c_str(), 0);
  else if (second->st_nlink == 1)
    ::unlinkat(folder_, path(hash, Place::Second).c_str(), 0);
}

bool ObjectNames::settle(std::size_t limit) {
  for (unsigned byte = 0;;) {
    for (; !settling_.empty(); settling_.pop_back()) {
      if (limit-- == 0) return true;
      settle(settling_.back());
    }
    while (byte < unsettled_.size() && !unsettled_[byte].exchange(false)) ++byte;
    if (byte == unsettled_.size()) break;
    each_in(folder_, std::string(kSecond) + "/" + hex_byte(byte),
            [&](const Hash& hash) { settling_.push_back(hash); });
  }
  settling_.shrink_to_fit();
  return false;
}

void ObjectNames::each(const std::function<void(const Hash&)>& visit) const {
  for (unsigned byte = 0; byte < unsettled_.size(); ++byte)
    for (const std::string& above : {std::string(), std::string(kSecond) + "/"})
      each_in(folder_, above + hex_byte(byte), visit);
}

}  // namespace mirrorbus::tree
