// Extended attributes by path, in the plainest way: what tests set, and what they compare with.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/xattr_set.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

#include <sys/xattr.h>

namespace mirrorbus::test {

// Of the path itself, whatever namespace the process sees, without other filesystems' system.*.
inline proto::XattrSet xattrs_of(const std::string& path) {
  proto::XattrSet set;
  std::string names(70'000, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0 && errno == ENOTSUP) return set;
  if (size < 0) base::throw_errno("llistxattr " + path);
  names.resize(static_cast<std::size_t>(size));
  for (std::size_t at = 0; at < names.size(); at += std::string(names.c_str() + at).size() + 1) {
    const std::string name = names.c_str() + at;
    if (name.starts_with("system.") && !name.starts_with("system.posix_acl_")) continue;
    std::string value(70'000, '\0');
    const ssize_t got = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (got < 0) base::throw_errno("lgetxattr " + name + " of " + path);
    value.resize(static_cast<std::size_t>(got));
    set.push_back({name, value});
  }
  std::ranges::sort(set);
  return set;
}

inline void set_xattr(const std::string& path, const std::string& name, const std::string& value) {
  if (::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
    base::throw_errno("lsetxattr " + name + " of " + path);
}

inline void remove_xattr(const std::string& path, const std::string& name) {
  if (::lremovexattr(path.c_str(), name.c_str()) != 0)
    base::throw_errno("lremovexattr " + name + " of " + path);
}

inline constexpr const char* kAccessAcl = "system.posix_acl_access";
inline constexpr const char* kDefaultAcl = "system.posix_acl_default";

// An ACL as the kernel has it: rwx bits of the owner, one named user, the group, the mask, others.
inline std::string acl(unsigned owner, unsigned uid, unsigned user, unsigned group, unsigned mask,
                       unsigned other) {
  std::string out("\2\0\0\0", 4);
  const auto add = [&out](unsigned tag, unsigned perm, unsigned id) {
    for (const unsigned v : {tag, perm}) {
      out += static_cast<char>(v);
      out += static_cast<char>(v >> 8);
    }
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(id >> shift);
  };
  add(0x01, owner, UINT32_MAX);
  add(0x02, user, uid);
  add(0x04, group, UINT32_MAX);
  add(0x10, mask, UINT32_MAX);
  add(0x20, other, UINT32_MAX);
  return out;
}

}  // namespace mirrorbus::test
