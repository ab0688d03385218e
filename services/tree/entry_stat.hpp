// What lstat said about an entry when its content was last known: the whole of "unchanged".
#pragma once

#include "proto/node.hpp"

#include <cstdint>
#include <vector>

struct stat;

namespace mirrorbus::tree {

// Kept as it is in the index, which never leaves the machine.
struct EntryStat {
  // Read too soon after a change for its time stamps to prove anything: hash it again.
  static constexpr std::uint32_t kUncertain = 1;
  // The content store's object of this content is this very inode: one link is ours.
  static constexpr std::uint32_t kHeld = 2;
  // Reading it failed at the last look; the node says what was known before.
  static constexpr std::uint32_t kUnreadable = 4;
  // Its extended attributes were read too soon after a change: read them again.
  static constexpr std::uint32_t kXattrsAgain = 8;
  // On a mirror: has not all of the signed attributes, or not the signed times or mode, because
  // this policy, user or filesystem does not allow it.
  static constexpr std::uint32_t kXattrsShort = 16;
  static constexpr std::uint32_t kLimited = 32;
  // Other versions of ours have names for this inode, and their coming and going moves its ctime.
  static constexpr std::uint32_t kShared = 64;

  std::uint64_t dev = 0;
  std::uint64_t ino = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_s = 0;
  std::int64_t ctime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t ctime_ns = 0;
  std::uint32_t mode = 0;  // st_mode, type bits included
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t flags = 0;

  static EntryStat of(const struct stat& st);
  bool operator==(const EntryStat&) const = default;

  // Everything but the flags, and the ctime where either is kShared. Not the link count: our own
  // store's links move it.
  bool same(const EntryStat& other) const noexcept;
  // As `same`, on a filesystem that came back under another device number.
  bool same_but_device(const EntryStat& other) const noexcept;
};
static_assert(sizeof(EntryStat) == 64);

proto::ByteView stats_view(const std::vector<EntryStat>& stats);
// Throws std::runtime_error if the size is not a multiple of a record's: a damaged index.
std::vector<EntryStat> stats_of(proto::ByteView bytes);

// The entry's metadata as a node has it: type, mode, owner, times, size, device numbers. Leaves name,
// content, target and xattrs alone. False if no node can hold it (an owner of -1, an unknown type).
bool describe(const struct stat& st, proto::Entry& entry);

bool same_inode(const struct stat& a, const struct stat& b);

}  // namespace mirrorbus::tree
