// What a numbered version of a tree consists of beside its nodes: the links and owners tables, the
// tree root that ties them to the nodes, and the version record. See tree_version.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/node.hpp"
#include "proto/reject.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <vector>

namespace mirrorbus::proto {

// 128 random bits that the origin drew for its version 1.
struct TreeId {
  static constexpr std::size_t kSize = 16;
  std::array<unsigned char, kSize> octets{};

  static TreeId from_bytes(ByteView bytes);  // exactly 16
  ByteView view() const noexcept {
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
  }
  bool is_zero() const noexcept { return *this == TreeId{}; }
  auto operator<=>(const TreeId&) const noexcept = default;
};
inline std::string to_hex(const TreeId& id) { return to_hex(id.view()); }

// Which paths are one inode. Each group has two or more paths in tree order, the groups are in the
// order of their first paths, and no path is in two.
struct LinksTable {
  std::vector<std::vector<Bytes>> groups;
  bool operator==(const LinksTable&) const = default;
};
Bytes encode_links(const LinksTable& links);
Decoded<LinksTable> decode_links(ByteView bytes);
inline constexpr std::size_t kMaxLinksSize = 256 * 1024 * 1024;

// The names the origin's ids had. An id without a name is not in it.
struct OwnersTable {
  std::map<std::uint32_t, Bytes> users;
  std::map<std::uint32_t, Bytes> groups;
  bool operator==(const OwnersTable&) const = default;
};
Bytes encode_owners(const OwnersTable& owners);
Decoded<OwnersTable> decode_owners(ByteView bytes);
inline constexpr std::size_t kMaxOwnersSize = 16 * 1024 * 1024;
bool valid_owner_name(ByteView name) noexcept;  // 1 to 255 bytes, no NUL, '\n' or ':'

// The tree hash is the SHA-256 of this, encoded: it vouches for every name, byte and mode bit.
struct TreeRoot {
  Entry entry;  // the root directory itself: no name, content = id of its node
  Hash links;   // SHA-256 of the encoded table
  Hash owners;
  bool operator==(const TreeRoot&) const = default;
};
Bytes encode_tree_root(const TreeRoot& root);
Decoded<TreeRoot> decode_tree_root(ByteView bytes);
inline Hash tree_hash(const TreeRoot& root) { return sha256(encode_tree_root(root)); }

struct TreeCounts {
  std::uint64_t entries = 0;  // of every type, the root not among them
  std::uint64_t files = 0;
  std::uint64_t directories = 0;
  std::uint64_t symlinks = 0;
  std::uint64_t bytes = 0;  // sum of the file sizes
  bool operator==(const TreeCounts&) const = default;
};

// Hashed apart from the tree, so that a rollback is a new version with an old tree hash.
struct VersionRecord {
  TreeId tree;
  std::uint64_t number = 0;  // from 1
  Hash parent;               // hash of the record before; zero if there is none
  Hash tree_hash;
  TreeCounts counts;
  std::uint64_t time_ns = 0;  // when the version was closed, nanoseconds since 1970
  Bytes extensions;           // empty, or a msgpack map; reserved, carried along unread
  bool operator==(const VersionRecord&) const = default;
};
Bytes encode_version(const VersionRecord& record);
Decoded<VersionRecord> decode_version(ByteView bytes);
inline Hash version_hash(const VersionRecord& record) { return sha256(encode_version(record)); }
inline constexpr std::size_t kMaxVersionExtensions = 4096;

// The delta pack that leads from the version before to this one.
struct PackRef {
  Hash sha256;  // of the whole file, and its name
  std::uint64_t size = 0;
  std::uint64_t index_size = 0;  // header and index: what to read first
  Hash index_sha256;             // of those bytes
  bool operator==(const PackRef&) const = default;
};

}  // namespace mirrorbus::proto
