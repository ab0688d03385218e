#include "services/tree/xattr_change.hpp"

#include "services/tree/xattrs.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace mirrorbus::tree {
namespace {

using proto::Bytes;
using proto::ByteView;
using proto::XattrSet;

// include/uapi/linux/posix_acl_xattr.h: a version, then entries, little-endian.
constexpr std::size_t kHeadSize = 4, kEntrySize = 8;
enum Tag : std::uint16_t { kUser = 0x02, kGroupObject = 0x04, kGroup = 0x08, kMask = 0x10 };

ByteView value_of(const XattrSet& set, std::string_view name) {
  const auto found = std::ranges::find(set, name, &proto::Xattr::name);
  return found == set.end() ? ByteView() : ByteView(found->value);
}

// What an access ACL says beyond the permission bits: of named users and groups, and, where it has a
// mask (which the group's bits show), of the owning group.
struct Beyond {
  bool mask = false;
  std::uint16_t group = 0;
  std::vector<std::array<std::uint32_t, 3>> named;
  bool operator==(const Beyond&) const = default;
};

Beyond beyond_mode(ByteView acl) {
  Beyond found;
  std::uint16_t group = 0;
  const auto number = [&](std::size_t at, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t i = size; i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(acl[at + i]);
    return value;
  };
  for (std::size_t at = kHeadSize; at + kEntrySize <= acl.size(); at += kEntrySize) {
    const auto tag = static_cast<std::uint16_t>(number(at, 2));
    const auto rights = static_cast<std::uint16_t>(number(at + 2, 2));
    if (tag == kUser || tag == kGroup) found.named.push_back({tag, rights, number(at + 4, 4)});
    if (tag == kGroupObject) group = rights;
    found.mask |= tag == kMask;
  }
  if (found.mask) found.group = group;
  return found;
}

void leave_out_acls(XattrSet& set) {
  std::erase_if(set, [](const proto::Xattr& attribute) { return is_acl(attribute.name); });
}

}  // namespace

XattrChange compare_xattrs(const XattrSet& was, const XattrSet& now) {
  XattrChange change;
  change.acls = value_of(was, kDefaultAcl) != value_of(now, kDefaultAcl) ||
                beyond_mode(value_of(was, kAccessAcl)) != beyond_mode(value_of(now, kAccessAcl));
  XattrSet a = was, b = now;
  leave_out_acls(a);
  leave_out_acls(b);
  change.others = a != b;
  return change;
}

}  // namespace mirrorbus::tree
