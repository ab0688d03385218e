// Extended attributes of a name in an open directory: read, compared, set. The only code that calls
// the kernel for them.
//
// The calls know paths and open files only, and opening is what must not happen to a FIFO or a
// device; so the path is /proc/self/fd/<directory>/<name>, whose last component is never followed.
// An empty name means the directory itself. Any thread.
#pragma once

#include "proto/xattr_set.hpp"
#include "services/tree/entry_ops.hpp"

#include <expected>
#include <optional>
#include <string_view>

namespace mirrorbus::tree {

enum class XattrMode {
  None,
  User,  // user.*, and POSIX ACLs, which a file's owner may set
  All,   // and trusted.*, security.*
};
std::string_view to_string(XattrMode mode);
std::optional<XattrMode> xattr_mode(std::string_view text);
// All as root, else User.
XattrMode default_xattr_mode();

// The two attributes of system.* that are POSIX ACLs.
inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
inline bool is_acl(proto::ByteView name) { return name == kAccessAcl || name == kDefaultAcl; }

// Whether `mode` carries an attribute of this name. Of system.* only the ACLs: the others are the
// filesystem's own affair.
bool carries(XattrMode mode, proto::ByteView name);
// Those of a signed set that `mode` carries.
proto::XattrSet carried(XattrMode mode, const proto::XattrSet& set);

// What (dir, name) has of what `mode` carries; nothing where the filesystem knows no attributes. An
// errno if they cannot be read; E2BIG if they are more than a set may be.
std::expected<proto::XattrSet, int> read_xattrs(int dir, const proto::Bytes& name, XattrMode mode);

// Changes what differs between `now` and `wanted`. ACLs are left to the second call, after chmod,
// which would change their mask. False if some could not be set or removed because of this user or
// filesystem; throws std::system_error where nothing could be (disk full, I/O error).
enum class XattrPart { Plain, Acls };
bool change_xattrs(const EntryOps& ops, int dir, const proto::Bytes& name, XattrPart part,
                   const proto::XattrSet& now, const proto::XattrSet& wanted);

}  // namespace mirrorbus::tree
