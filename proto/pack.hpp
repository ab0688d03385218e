// A delta pack: the file that leads from one version of a tree to the next. See pack.md.
//
// This is the layout: header, index, and what the pieces of a frame look like. Compression, and
// everything that needs the trees, is in services/tree/pack_writer and pack_reader.
#pragma once

#include "proto/bytes.hpp"
#include "proto/node.hpp"
#include "proto/reject.hpp"
#include "proto/tree_version.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace mirrorbus::proto {

struct PackHeader {
  static constexpr std::size_t kSize = 32;
  std::uint64_t index_stored = 0;  // bytes of the compressed index, which follows the header
  std::uint64_t index_raw = 0;     // decompressed
  bool operator==(const PackHeader&) const = default;
};
Bytes encode_pack_header(const PackHeader& header);
Decoded<PackHeader> decode_pack_header(ByteView bytes);

// What a frame is compressed against and what it holds must together stay below this.
inline constexpr std::uint64_t kMaxPackSpan = 128 * 1024 * 1024;
inline constexpr std::uint64_t kMaxPackIndexSize = 16 * 1024 * 1024;
inline constexpr std::size_t kMaxPackExtensions = 512 * 1024;

// The new directory `to`, with everything below it, equals the base tree's directory `from`.
struct PackMove {
  Bytes to, from;
  bool operator==(const PackMove&) const = default;
};

// Directories of the base tree from `first` to `last` in tree order, both included.
struct PathRange {
  Bytes first, last;
  bool operator==(const PathRange&) const = default;
};

struct NodeFrame {
  std::uint64_t stored = 0;  // compressed size
  std::uint64_t raw = 0;     // decompressed size
  std::uint64_t nodes = 0;
  std::vector<PathRange> base;   // growing over all frames
  std::vector<Bytes> elsewhere;  // further base directories; at most as many as nodes
  bool operator==(const NodeFrame&) const = default;
};

// Where a changed file's new content comes from: targets are numbered as pack.md says.
struct PackCopy {
  std::uint64_t target = 0;
  Bytes from;  // file of the base tree with that content
  bool operator==(const PackCopy&) const = default;
};

struct GroupTarget {
  enum class Base : std::uint8_t { None = 0, SamePath = 1, Elsewhere = 2 };
  std::uint64_t target = 0;
  Base base = Base::None;
  Bytes from;  // Base::Elsewhere: file of the base tree
  bool operator==(const GroupTarget&) const = default;
};

struct ContentGroup {
  std::uint64_t stored = 0;
  std::vector<GroupTarget> targets;  // growing; their contents, concatenated, are what it holds
  bool operator==(const ContentGroup&) const = default;
};

// A file too large for a group, in pieces that follow one another: each against a range of its base.
struct PackPiece {
  std::uint64_t stored = 0;
  std::uint64_t size = 0;  // of the target
  std::uint64_t base_offset = 0, base_size = 0;
  bool operator==(const PackPiece&) const = default;
};
struct PackLarge {
  GroupTarget target;  // with a base
  std::vector<PackPiece> pieces;
  bool operator==(const PackLarge&) const = default;
};

struct PackIndex {
  Hash base;      // tree hash; zero: the empty tree
  TreeRoot root;  // of the target
  // The new links and owners tables; size 0: as in the base.
  std::uint64_t links_size = 0;
  std::uint64_t owners_size = 0;
  std::uint64_t tables_stored = 0;  // 0 if neither is there
  std::vector<PackMove> moves;      // growing by `to`, none within another
  std::vector<NodeFrame> node_frames;
  std::uint64_t targets = 0;
  std::vector<PackCopy> copies;  // growing
  std::vector<ContentGroup> groups;
  std::vector<PackLarge> large;  // growing by target
  Bytes extensions;  // empty, or a msgpack map: see xattr_sets_of()
  bool operator==(const PackIndex&) const = default;

  // Bytes of all frames after the index: tables, nodes, groups, pieces, in this order.
  std::uint64_t frames_size() const;
};
Bytes encode_pack_index(const PackIndex& index);
Decoded<PackIndex> decode_pack_index(ByteView bytes);

// Encoded sets of extended attributes (xattr_set.md) that a pack brings along, as its extensions;
// together they must stay some bytes below kMaxPackExtensions.
Bytes xattr_extension(const std::vector<Bytes>& sets);
// Each decodes.
Decoded<std::vector<Bytes>> xattr_sets_of(const PackIndex& index);

// Node frames hold records of path and node (without child ids); so does what they are compressed
// against, for the base's directories.
class NodeRecordWriter {
 public:
  explicit NodeRecordWriter(Bytes& out) : out_(out) {}
  void add(ByteView path, ByteView node);

 private:
  Bytes& out_;
  Bytes last_;
};

class NodeRecordReader {
 public:
  explicit NodeRecordReader(ByteView bytes) : r_(bytes) {}
  // False at the end and at the first fault. The node is not looked into.
  bool next(Bytes& path, ByteView& node);
  const std::optional<Reject>& failure() const { return r_.failure(); }

 private:
  Reader r_;
  Bytes last_;
  bool first_ = true;
};

}  // namespace mirrorbus::proto
