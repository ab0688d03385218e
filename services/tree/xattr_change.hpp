// In what two sets of extended attributes differ, for people: POSIX ACLs beyond what the mode says of
// them anyway, as `rsync -A` compares them, and everything else.
#pragma once

#include "proto/xattr_set.hpp"

namespace mirrorbus::tree {

struct XattrChange {
  bool acls = false;
  bool others = false;
};
XattrChange compare_xattrs(const proto::XattrSet& was, const proto::XattrSet& now);

}  // namespace mirrorbus::tree
