#include "services/tree/xattrs.hpp"

#include "bus/base/fd.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Xattr;
using proto::XattrSet;

namespace {

constexpr std::size_t kListGuess = 1024, kValueGuess = 1024;
constexpr std::uint64_t kRoom = 1024 * 1024;  // bytes: with so many the disk is not what is full

// Linux 6.13: the names of the attributes of an entry, without the way through /proc.
ssize_t list_at(int dir, const Bytes& name, char* into, std::size_t size) {
#ifndef SYS_listxattrat
  constexpr long kListXattrAt = 465;
#else
  constexpr long kListXattrAt = SYS_listxattrat;
#endif
  return ::syscall(kListXattrAt, dir, name.c_str(),
                   name.empty() ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW, into, size);
}

// The path of an entry, of the thread. Most entries have no attributes, which takes none: it is made
// when it is needed.
class Path {
 public:
  Path(int dir, const Bytes& name) : dir_(dir), name_(name), follow_(name.empty()) {}
  ssize_t list(char* into, std::size_t size) {
    const ssize_t listed = list_at(dir_, name_, into, size);
    // EPERM is what sandboxes answer to numbers they do not know; EBADF, of an O_PATH descriptor itself.
    if (listed >= 0 || (errno != ENOSYS && errno != EPERM && errno != EBADF)) return listed;
    return (follow_ ? ::listxattr : ::llistxattr)(text(), into, size);
  }
  ssize_t get(const char* attribute, char* into, std::size_t size) {
    return (follow_ ? ::getxattr : ::lgetxattr)(text(), attribute, into, size);
  }
  int set(const Xattr& each) {
    const auto call = follow_ ? ::setxattr : ::lsetxattr;
    return call(text(), each.name.c_str(), each.value.data(), each.value.size(), 0);
  }
  int remove(const Bytes& attribute) {
    return (follow_ ? ::removexattr : ::lremovexattr)(text(), attribute.c_str());
  }

 private:
  const char* text() {
    if (text_.empty()) {
      text_ = "/proc/self/fd/" + std::to_string(dir_);
      if (!follow_) (text_ += '/') += name_;
    }
    return text_.c_str();
  }

  const int dir_;
  const Bytes& name_;
  const bool follow_;  // the magic link to the directory itself
  std::string text_;
};

// Calls until the buffer is large enough; what is read may grow meanwhile.
template <class Call>
std::expected<Bytes, int> read_all(std::size_t guess, Call call) {
  Bytes bytes(guess, '\0');
  for (;;) {
    ssize_t n = call(bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.resize(static_cast<std::size_t>(n));
      return bytes;
    }
    if (errno != ERANGE) return std::unexpected(errno);
    n = call(nullptr, 0);
    if (n < 0) return std::unexpected(errno);
    bytes.resize(static_cast<std::size_t>(n) + 256);
  }
}

bool full_disk(int dir) {
  struct statvfs fs;
  return ::fstatvfs(dir, &fs) == 0 && fs.f_bavail * fs.f_frsize < kRoom;
}

// The user or the filesystem does not have it so. A disk that is full says what one says whose
// inodes have too little room for attributes.
bool limit(int error, int dir) {
  switch (error) {
    case EPERM:
    case EACCES:
    case ENOTSUP:
    case E2BIG:
    case EINVAL:
    case ERANGE: return true;
    case ENOSPC:
    case EDQUOT: return !full_disk(dir);
    default: return false;
  }
}

}  // namespace

std::string_view to_string(XattrMode mode) {
  switch (mode) {
    case XattrMode::None: return "none";
    case XattrMode::User: return "user";
    case XattrMode::All: break;
  }
  return "all";
}

std::optional<XattrMode> xattr_mode(std::string_view text) {
  for (const auto mode : {XattrMode::None, XattrMode::User, XattrMode::All})
    if (text == to_string(mode)) return mode;
  return std::nullopt;
}

XattrMode default_xattr_mode() { return ::geteuid() == 0 ? XattrMode::All : XattrMode::User; }

bool carries(XattrMode mode, ByteView name) {
  if (mode == XattrMode::None) return false;
  if (name.starts_with("user.") || is_acl(name)) return true;
  // XFS shows the ACLs a second time, in its own form.
  if (name.starts_with("trusted.SGI_ACL_")) return false;
  return mode == XattrMode::All && (name.starts_with("trusted.") || name.starts_with("security."));
}

XattrSet carried(XattrMode mode, const XattrSet& set) {
  XattrSet some;
  std::ranges::copy_if(set, std::back_inserter(some),
                       [mode](const Xattr& each) { return carries(mode, each.name); });
  return some;
}

std::expected<XattrSet, int> read_xattrs(int dir, const Bytes& name, XattrMode mode) {
  XattrSet set;
  if (mode == XattrMode::None) return set;
  Path path(dir, name);
  char few[kListGuess];
  ssize_t size = path.list(few, sizeof few);
  if (size == 0) return set;
  if (size < 0 && errno == ENOTSUP) return set;
  Bytes names;
  if (size > 0) {
    names.assign(few, static_cast<std::size_t>(size));
  } else {
    if (errno != ERANGE) return std::unexpected(errno);
    auto all = read_all(4 * kListGuess, [&](char* into, std::size_t n) {
      return path.list(into, n);
    });
    if (!all) return std::unexpected(all.error());
    names = std::move(*all);
  }
  std::size_t total = 4;
  for (std::size_t at = 0; at < names.size();) {
    Xattr each{Bytes(names.c_str() + at), {}};
    at += each.name.size() + 1;
    if (!carries(mode, each.name)) continue;
    auto value = read_all(kValueGuess, [&](char* into, std::size_t n) {
      return path.get(each.name.c_str(), into, n);
    });
    // Gone since it was listed; or listed, and not for us.
    if (!value && value.error() == ENODATA) continue;
    if (!value) return std::unexpected(value.error());
    each.value = std::move(*value);
    total += each.name.size() + each.value.size() + 4;
    if (total > proto::kMaxXattrSetSize || each.value.size() > proto::kMaxXattrValueSize)
      return std::unexpected(E2BIG);
    set.push_back(std::move(each));
  }
  std::ranges::sort(set);
  return set;
}

bool change_xattrs(const EntryOps& ops, int dir, const Bytes& name, XattrPart part,
                   const XattrSet& now, const XattrSet& wanted) {
  Path path(dir, name);
  bool all = true;
  const auto done = [&](int result, const char* call, const Bytes& attribute) {
    if (result == 0 || errno == ENODATA) return;
    const int error = errno;
    if (!limit(error, dir)) base::throw_errno(call + (" " + attribute) + " of " + name, error);
    all = false;
  };
  const auto ours = [part](const Xattr& each) {
    return is_acl(each.name) == (part == XattrPart::Acls);
  };
  for (const Xattr& each : now) {
    if (!ours(each) || std::ranges::binary_search(wanted, each.name, {}, &Xattr::name)) continue;
    ops.mutating("removexattr", name);
    done(path.remove(each.name), "remove", each.name);
  }
  for (const Xattr& each : wanted) {
    if (!ours(each) || std::ranges::binary_search(now, each)) continue;
    ops.mutating("setxattr", name);
    done(path.set(each), "set", each.name);
  }
  return all;
}

}  // namespace mirrorbus::tree
