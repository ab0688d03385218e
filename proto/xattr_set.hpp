// The extended attributes of a file, POSIX ACLs among them: named by a node, kept apart from it,
// because many files have the same few. See xattr_set.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"
#include "proto/sha256.hpp"

#include <vector>

namespace mirrorbus::proto {

struct Xattr {
  Bytes name;   // with its namespace: "user.comment"
  Bytes value;  // as the kernel gives it
  auto operator<=>(const Xattr&) const = default;
};

// Sorted by name, bytewise; each name once. One without attributes is no set: a node names none.
using XattrSet = std::vector<Xattr>;

// Linux's limits for one attribute; the whole is bounded by us.
inline constexpr std::size_t kMaxXattrNameSize = 255;
inline constexpr std::size_t kMaxXattrValueSize = 64 * 1024;
inline constexpr std::size_t kMaxXattrSetSize = 1024 * 1024;

Bytes encode_xattr_set(const XattrSet& set);
Decoded<XattrSet> decode_xattr_set(ByteView bytes);

// The id of a set that is encoded.
inline Hash xattr_set_id(ByteView encoded) { return sha256(encoded); }

}  // namespace mirrorbus::proto
