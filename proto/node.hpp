// A directory node: what a tree's Merkle tree is made of. See node.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"
#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "proto/wire.hpp"

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
  std::uint32_t mode = 0;  // permission, setuid, setgid and sticky bits (07777); Symlink: 0777
  std::uint32_t uid = 0;   // UINT32_MAX is nobody's: chown(2) reads it as "leave alone"
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

// Mode, owner, mtime and extended attributes, as signed.
inline bool same_metadata(const Entry& a, const Entry& b) {
  return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.mtime_s == b.mtime_s &&
         a.mtime_ns == b.mtime_ns && a.xattrs == b.xattrs;
}

inline constexpr std::uint8_t kEntryImmutable = 0x01;

// Names strictly increasing, bytewise.
struct Node {
  std::vector<Entry> entries;
  bool operator==(const Node&) const = default;

  const Entry* find(ByteView name) const;  // binary search
};

// A delta pack leaves the ids of child nodes out: the receiver fills them in from the leaves up.
// An Entry decoded so has a zero `content`.
enum class ChildIds { Present, Omitted };

Bytes encode_node(const Node& node, ChildIds ids = ChildIds::Present);
Decoded<Node> decode_node(ByteView bytes, ChildIds ids = ChildIds::Present);
inline constexpr std::size_t kMaxNodeSize = 64 * 1024 * 1024;

// The id of a node encoded with its child ids.
inline Hash node_id(ByteView encoded) { return sha256(encoded); }

// Writes a node entry by entry. The caller adds valid entries in order; both are asserted.
class NodeWriter {
 public:
  explicit NodeWriter(Bytes& out, ChildIds ids = ChildIds::Present);
  void add(const Entry& entry);

 private:
  Bytes& out_;
  ChildIds ids_;
  std::int64_t mtime_s_ = 0;
  Bytes last_;
};

// Reads a node entry by entry without building it: a directory may have a million entries.
//   while (reader.next(entry)) …;  if (reader.failure()) …
class NodeReader {
 public:
  explicit NodeReader(ByteView bytes, ChildIds ids = ChildIds::Present);
  // False at the end and at the first fault. Reuses the strings of `entry`.
  bool next(Entry& entry);
  const std::optional<Reject>& failure() const { return r_.failure(); }

 private:
  Reader r_;
  ChildIds ids_;
  std::int64_t mtime_s_ = 0;
  ByteView last_;
};

// The root directory's own metadata: an entry without a name, of type Directory.
void encode_root_entry(Writer& w, const Entry& entry);
Entry decode_root_entry(Reader& r);

}  // namespace mirrorbus::proto
