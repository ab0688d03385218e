// A directory node: what a tree's Merkle tree is made of. See node.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace mirrorbus::proto {

enum class EntryType : std::uint8_t {
  File = 1,
  Directory = 2,
  Symlink = 3,
  CharDevice = 4,
  BlockDevice = 5,
  Fifo = 6,
  Socket = 7,
};

struct Entry {
  Bytes name;  // bytes, no encoding implied; empty only in a root entry
  EntryType type = EntryType::File;
  std::uint32_t mode = 0;  // permission, setuid, setgid and sticky bits (07777)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;  // since 1970, may be negative
  std::uint32_t mtime_ns = 0;
  std::uint8_t flags = 0;         // kEntryImmutable; the others are reserved and refused
  std::optional<Hash> xattrs;     // id of the xattr set (ACLs are among them)
  std::uint64_t size = 0;         // File: bytes
  Hash content;                   // File: SHA-256 of the content; Directory: id of the child node
  Bytes target;                   // Symlink
  std::uint32_t major = 0;        // devices
  std::uint32_t minor = 0;

  bool operator==(const Entry&) const = default;
};

inline constexpr std::uint8_t kEntryImmutable = 0x01;

// Names strictly increasing, bytewise.
struct Node {
  std::vector<Entry> entries;
  bool operator==(const Node&) const = default;

  const Entry* find(ByteView name) const;  // binary search
};

Bytes encode_node(const Node& node);
Decoded<Node> decode_node(ByteView bytes);
inline constexpr std::size_t kMaxNodeSize = 64 * 1024 * 1024;

// Not ".", "..", empty, over 255 bytes, and without '/' and NUL.
bool valid_entry_name(ByteView name) noexcept;

}  // namespace mirrorbus::proto
