// Reads a delta pack: what the tree will be, then the contents it carries. See proto/pack.md.
//
// A pack is not believed. Sizes are compared with limits before anything is allocated, paths and
// nodes are decoded, the tree hash must come out, and a content is handed on only if it has the hash
// its signed node says. What is wrong with a pack is a Reject; failing to read the file, or a base
// tree that is not whole, is our own trouble and throws. One thread at a time.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/pack.hpp"
#include "services/tree/pack_targets.hpp"
#include "services/tree/patch.hpp"
#include "services/tree/tree_view.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace mirrorbus::tree {

// Where a pack's bytes are: a file, or an event that carried them.
class PackBytes {
 public:
  PackBytes(base::Fd file, std::uint64_t size) : file_(std::move(file)), size_(size) {}
  explicit PackBytes(proto::Bytes bytes) : bytes_(std::move(bytes)), size_(bytes_.size()) {}

  std::uint64_t size() const { return size_; }
  // Exactly that many, which must be there.
  proto::Bytes read(std::uint64_t at, std::uint64_t size) const;

 private:
  base::Fd file_;
  proto::Bytes bytes_;
  std::uint64_t size_;
};

class PackReader {
 public:
  // Reads header and index, which alone need to be there yet. With `ref`, sizes and the index's hash
  // must be what it says (SizeLie, BadHash).
  static proto::Decoded<PackReader> open(PackBytes bytes, const proto::PackRef* ref);

  const proto::PackIndex& index() const { return index_; }
  // Encoded sets of extended attributes, each as good as its hash.
  const std::vector<proto::Bytes>& xattr_sets() const { return xattr_sets_; }

  // Called for each directory whose node is new, children before parents.
  using NodeSink = std::function<void(const proto::Bytes& path, const proto::Hash& id,
                                      const proto::Bytes& node)>;
  struct Tables {
    proto::Bytes links, owners;  // encoded; those of the target
  };
  // Puts the target's nodes together from `base` and checks that `expected` comes out as their tree
  // hash: afterwards every node handed on is as good as signed. Directories below a move and those
  // that did not change are not handed on: the base has their nodes.
  proto::Decoded<Tables> read_nodes(const TreeView& base, const proto::Hash& expected,
                                    const NodeSink& sink);

  // ---- after read_nodes
  const PackTargets& targets() const { return targets_; }
  struct Copy {
    std::size_t target;
    FileRef from;  // of the base; has the same hash
  };
  const std::vector<Copy>& copies() const { return copies_; }
  struct Item {
    std::size_t target;
    std::optional<FileRef> base;
  };
  const std::vector<std::vector<Item>>& groups() const { return groups_; }
  // Files in pieces.
  const std::vector<Item>& large() const { return large_; }
  const std::vector<proto::PackPiece>& pieces(std::size_t large) const {
    return index_.large[large].pieces;
  }
  // The next bytes of a large file. `base`: the piece's range of it. What comes of all of them has to
  // be hashed by whoever puts it together. Several threads, each with a decoder of its own.
  proto::Decoded<proto::Bytes> read_piece(std::size_t large, std::size_t piece,
                                          PatchDecoder& decoder, proto::ByteView base) const;
  bool has_contents() const {
    return !copies_.empty() || !groups_.empty() || !large_.empty();
  }
  // The pack has this content, as a copy or in a group.
  bool offers(const proto::Hash& content) const;

  // The content of a file of the base; nothing if it is not there or not as it was. It is hashed
  // here, so need not be there.
  using ReadBase = std::function<std::optional<proto::Bytes>(const FileRef&)>;
  using ContentSink = std::function<void(const PackTarget&, proto::ByteView content)>;
  // MissingBase: fetch this group's targets by hash. Any other Reject: the pack is bad. Several
  // threads may read groups at once, each with a decoder of its own.
  proto::Decoded<void> read_group(std::size_t group, PatchDecoder& decoder, const ReadBase& read,
                                  const ContentSink& sink) const;
  proto::Decoded<void> read_group(std::size_t group, const ReadBase& read,
                                  const ContentSink& sink) {
    return read_group(group, decoder_, read, sink);
  }

 private:
  explicit PackReader(PackBytes bytes) : bytes_(std::move(bytes)) {}
  proto::Decoded<Tables> read_tables(const TreeView& base);
  proto::Decoded<proto::Bytes> base_records(const TreeView& base, const proto::NodeFrame& frame);
  proto::Decoded<proto::Bytes> read_frame(const TreeView& base, std::size_t number);
  proto::Decoded<void> read_frames(const TreeView& base);
  proto::Decoded<proto::Hash> put_together(const TreeView& base, const NodeSink& sink);
  proto::Decoded<void> resolve(const TreeView& base);
  proto::Decoded<void> resolve_large(const TreeView& base, std::uint64_t at);
  proto::Decoded<Item> resolve_item(const TreeView& base, const proto::GroupTarget& target) const;

  PackBytes bytes_;
  proto::PackIndex index_;
  std::vector<proto::Bytes> xattr_sets_;
  std::uint64_t frames_at_ = 0;
  std::vector<std::uint64_t> frame_at_;  // node frames
  std::vector<proto::Bytes> frames_;     // decompressed, if all of them are not too much
  PatchDecoder decoder_;
  PackTargets targets_;
  std::vector<Copy> copies_;
  std::vector<std::vector<Item>> groups_;
  std::vector<std::uint64_t> group_at_;
  std::vector<Item> large_;
  std::vector<std::vector<std::uint64_t>> piece_at_;  // by large file
  std::vector<bool> offered_;  // per target
};

// The records of a base's directories, as a node frame is compressed against them.
class BaseRecords {
 public:
  // False if it would become larger than `limit`.
  bool add(proto::ByteView path, const proto::Bytes& node, std::uint64_t limit);
  void new_run() { writer_.emplace(bytes_); }
  proto::Bytes take() { return std::move(bytes_); }

 private:
  proto::Bytes bytes_;
  std::optional<proto::NodeRecordWriter> writer_;
};

// The same node without its child ids. The node is one of ours: throws if it does not decode.
proto::Bytes without_child_ids(proto::ByteView node);

}  // namespace mirrorbus::tree
