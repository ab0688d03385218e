#include "proto/pack.hpp"

#include "proto/limits.hpp"
#include "proto/value.hpp"
#include "proto/xattr_set.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::proto {
namespace {

constexpr ByteView kMagic("mirrorbus pack 1");
constexpr std::string_view kXattrsKey = "xattrs";
static_assert(kMagic.size() == 16);

void put_path(Writer& w, ByteView path) { w.varint(path.size()).raw(path); }

Bytes get_path(Reader& r, bool root_allowed) {
  const std::uint64_t size = r.varint();
  if (size > kMaxPathSize) r.fail(Reject::TooLarge);
  const ByteView path = r.raw(size);
  if (!r.failure() && !(path.empty() ? root_allowed : valid_tree_path(path)))
    r.fail(Reject::BadName);
  return Bytes(path);
}

constexpr std::uint64_t kMaxFrameStored = kMaxPackSpan;

void get_moves(Reader& r, PackIndex& index) {
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    PackMove move;
    move.to = get_path(r, false);
    move.from = get_path(r, true);
    if (!index.moves.empty()) {
      const Bytes& last = index.moves.back().to;
      if (!path_less(last, move.to) || within(last, move.to)) r.fail(Reject::BadOrder);
    }
    index.moves.push_back(std::move(move));
  }
}

void get_node_frames(Reader& r, PackIndex& index) {
  std::optional<Bytes> last;
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    NodeFrame& frame = index.node_frames.emplace_back();
    frame.stored = r.varint();
    frame.raw = r.varint();
    frame.nodes = r.varint();
    if (frame.stored > kMaxFrameStored || frame.raw > kMaxPackSpan) r.fail(Reject::TooLarge);
    if (frame.stored == 0 || frame.raw == 0 || frame.nodes == 0) r.fail(Reject::BadCount);
    if (frame.nodes > frame.raw) r.fail(Reject::BadCount);
    for (std::uint64_t ranges = r.varint(); ranges > 0 && !r.failure(); --ranges) {
      PathRange range;
      range.first = get_path(r, true);
      const std::uint8_t more = r.u8();
      if (more > 1) r.fail(Reject::BadFlags);
      range.last = more == 1 ? get_path(r, true) : range.first;
      if (more == 1 && !path_less(range.first, range.last)) r.fail(Reject::BadOrder);
      if (!r.failure() && last && !path_less(*last, range.first)) r.fail(Reject::BadOrder);
      last = range.last;
      frame.base.push_back(std::move(range));
    }
    const std::uint64_t elsewhere = r.varint();
    if (elsewhere > frame.nodes) r.fail(Reject::BadCount);
    for (std::uint64_t n = elsewhere; n > 0 && !r.failure(); --n)
      frame.elsewhere.push_back(get_path(r, true));
  }
}

// Ordinals of targets, each greater than the one before: as differences.
std::uint64_t get_target(Reader& r, std::uint64_t& next, std::uint64_t targets) {
  const std::uint64_t skipped = r.varint();
  if (next >= targets || skipped > targets - 1 - next) return r.fail(Reject::BadIndex), 0;
  const std::uint64_t target = next + skipped;
  next = target + 1;
  return target;
}

void get_copies(Reader& r, PackIndex& index) {
  std::uint64_t next = 0;
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    const std::uint64_t target = get_target(r, next, index.targets);
    index.copies.push_back({target, get_path(r, false)});
  }
}

GroupTarget get_group_target(Reader& r, std::uint64_t& next, std::uint64_t targets) {
  GroupTarget target;
  target.target = get_target(r, next, targets);
  const std::uint8_t base = r.u8();
  if (base > 2) r.fail(Reject::BadField);
  target.base = static_cast<GroupTarget::Base>(base);
  if (target.base == GroupTarget::Base::Elsewhere) target.from = get_path(r, false);
  return target;
}

void put_group_target(Writer& w, const GroupTarget& target, std::uint64_t& next,
                      [[maybe_unused]] std::uint64_t targets) {
  assert(target.target >= next && target.target < targets);
  w.varint(target.target - next).u8(static_cast<std::uint8_t>(target.base));
  if (target.base == GroupTarget::Base::Elsewhere) put_path(w, target.from);
  next = target.target + 1;
}

void get_groups(Reader& r, PackIndex& index) {
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    ContentGroup& group = index.groups.emplace_back();
    group.stored = r.varint();
    if (group.stored > kMaxFrameStored) r.fail(Reject::TooLarge);
    const std::uint64_t count = r.varint();
    if (group.stored == 0 || count == 0) r.fail(Reject::BadCount);
    std::uint64_t next = 0;
    for (std::uint64_t n = count; n > 0 && !r.failure(); --n) {
      group.targets.push_back(get_group_target(r, next, index.targets));
    }
  }
}

void get_large(Reader& r, PackIndex& index) {
  std::uint64_t next = 0;
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    PackLarge& large = index.large.emplace_back();
    large.target = get_group_target(r, next, index.targets);
    if (large.target.base == GroupTarget::Base::None) r.fail(Reject::BadField);
    const std::uint64_t count = r.varint();
    if (count == 0) r.fail(Reject::BadCount);
    for (std::uint64_t n = count; n > 0 && !r.failure(); --n) {
      PackPiece& piece = large.pieces.emplace_back();
      piece.stored = r.varint();
      piece.size = r.varint();
      piece.base_offset = r.varint();
      piece.base_size = r.varint();
      if (piece.stored == 0 || piece.size == 0) r.fail(Reject::BadCount);
      if (piece.stored > kMaxFrameStored || piece.size > kMaxPackSpan ||
          piece.base_size > kMaxPackSpan - piece.size || piece.base_offset > INT64_MAX)
        r.fail(Reject::TooLarge);
    }
  }
}

// No target may come from two places.
bool each_target_once(const PackIndex& index) {
  std::vector<std::uint64_t> seen;
  for (const PackCopy& copy : index.copies) seen.push_back(copy.target);
  for (const ContentGroup& group : index.groups)
    for (const GroupTarget& target : group.targets) seen.push_back(target.target);
  for (const PackLarge& large : index.large) seen.push_back(large.target.target);
  std::ranges::sort(seen);
  return std::ranges::adjacent_find(seen) == seen.end();
}

}  // namespace

Bytes encode_pack_header(const PackHeader& header) {
  Bytes out(kMagic);
  Writer(out).u64(header.index_stored).u64(header.index_raw);
  return out;
}

Decoded<PackHeader> decode_pack_header(ByteView bytes) {
  Reader r(bytes);
  if (r.raw(kMagic.size()) != kMagic) r.fail(Reject::BadMagic);
  PackHeader header;
  header.index_stored = r.u64();
  header.index_raw = r.u64();
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (header.index_stored > kMaxPackIndexSize || header.index_raw > kMaxPackIndexSize)
    return refuse(Reject::TooLarge);
  if (header.index_stored == 0 || header.index_raw == 0) return refuse(Reject::BadField);
  return header;
}

std::uint64_t PackIndex::frames_size() const {
  std::uint64_t size = tables_stored;
  for (const NodeFrame& frame : node_frames) size += frame.stored;
  for (const ContentGroup& group : groups) size += group.stored;
  for (const PackLarge& each : large)
    for (const PackPiece& piece : each.pieces) size += piece.stored;
  return size;
}

Bytes encode_pack_index(const PackIndex& index) {
  Bytes out;
  Writer w(out);
  const Bytes root = encode_tree_root(index.root);
  w.hash(index.base).varint(root.size()).raw(root);
  w.varint(index.links_size).varint(index.owners_size).varint(index.tables_stored);
  w.varint(index.moves.size());
  for (const PackMove& move : index.moves) {
    put_path(w, move.to);
    put_path(w, move.from);
  }
  w.varint(index.node_frames.size());
  for (const NodeFrame& frame : index.node_frames) {
    w.varint(frame.stored).varint(frame.raw).varint(frame.nodes).varint(frame.base.size());
    for (const PathRange& range : frame.base) {
      put_path(w, range.first);
      w.u8(range.first == range.last ? 0 : 1);
      if (range.first != range.last) put_path(w, range.last);
    }
    w.varint(frame.elsewhere.size());
    for (const Bytes& path : frame.elsewhere) put_path(w, path);
  }
  w.varint(index.targets).varint(index.copies.size());
  std::uint64_t next = 0;
  for (const PackCopy& copy : index.copies) {
    assert(copy.target >= next && copy.target < index.targets);
    w.varint(copy.target - next);
    put_path(w, copy.from);
    next = copy.target + 1;
  }
  w.varint(index.groups.size());
  for (const ContentGroup& group : index.groups) {
    w.varint(group.stored).varint(group.targets.size());
    next = 0;
    for (const GroupTarget& target : group.targets)
      put_group_target(w, target, next, index.targets);
  }
  w.varint(index.large.size());
  next = 0;
  for (const PackLarge& large : index.large) {
    put_group_target(w, large.target, next, index.targets);
    w.varint(large.pieces.size());
    for (const PackPiece& piece : large.pieces)
      w.varint(piece.stored).varint(piece.size).varint(piece.base_offset).varint(piece.base_size);
  }
  w.varint(index.extensions.size()).raw(index.extensions);
  return out;
}

Decoded<PackIndex> decode_pack_index(ByteView bytes) {
  if (bytes.size() > kMaxPackIndexSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  PackIndex index;
  index.base = r.hash();
  const std::uint64_t root_size = r.varint();
  const ByteView root_bytes = r.raw(root_size);
  if (r.failure()) return refuse(*r.failure());
  auto root = decode_tree_root(root_bytes);
  if (!root) return refuse(root.error());
  index.root = std::move(*root);
  index.links_size = r.varint();
  index.owners_size = r.varint();
  index.tables_stored = r.varint();
  if (index.links_size > kMaxPackSpan || index.owners_size > kMaxOwnersSize ||
      index.tables_stored > kMaxFrameStored)
    r.fail(Reject::TooLarge);
  if ((index.links_size + index.owners_size == 0) != (index.tables_stored == 0))
    r.fail(Reject::BadField);
  get_moves(r, index);
  get_node_frames(r, index);
  index.targets = r.varint();
  get_copies(r, index);
  get_groups(r, index);
  get_large(r, index);
  const std::uint64_t extensions = r.varint();
  if (extensions > kMaxPackExtensions) r.fail(Reject::TooLarge);
  index.extensions = r.raw(extensions);
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (!each_target_once(index)) return refuse(Reject::BadIndex);
  if (!index.extensions.empty()) {
    const auto map = unpack(index.extensions);
    if (!map) return refuse(map.error());
    if (!map->as_map()) return refuse(Reject::WrongType);
    if (map->as_map()->empty()) return refuse(Reject::NotCanonical);
  }
  return index;
}

Bytes xattr_extension(const std::vector<Bytes>& sets) {
  if (sets.empty()) return {};
  Array array;
  for (const Bytes& set : sets) array.push_back(Binary{set});
  return pack(Map{{std::string(kXattrsKey), std::move(array)}});
}

Decoded<std::vector<Bytes>> xattr_sets_of(const PackIndex& index) {
  std::vector<Bytes> sets;
  if (index.extensions.empty()) return sets;
  const auto map = unpack(index.extensions);
  if (!map) return refuse(map.error());
  const Value* value = map->find(kXattrsKey);
  if (!value) return sets;
  const Array* array = value->as_array();
  if (!array) return refuse(Reject::WrongType);
  for (const Value& each : *array) {
    const Bytes* bytes = each.as_binary();
    if (!bytes) return refuse(Reject::WrongType);
    if (const auto set = decode_xattr_set(*bytes); !set) return refuse(set.error());
    sets.push_back(*bytes);
  }
  return sets;
}

void NodeRecordWriter::add(ByteView path, ByteView node) {
  const auto shared =
      static_cast<std::size_t>(std::ranges::mismatch(last_, path).in1 - last_.begin());
  Writer w(out_);
  w.varint(shared).varint(path.size() - shared).raw(path.substr(shared));
  w.varint(node.size()).raw(node);
  last_ = path;
}

bool NodeRecordReader::next(Bytes& path, ByteView& node) {
  if (r_.failure() || r_.at_end()) return false;
  const std::uint64_t shared = r_.varint();
  const std::uint64_t added = r_.varint();
  if (shared > last_.size()) r_.fail(Reject::BadField);
  if (added > kMaxPathSize || shared + added > kMaxPathSize) r_.fail(Reject::TooLarge);
  const ByteView suffix = r_.raw(added);
  if (r_.failure()) return false;
  path.assign(last_, 0, shared);
  path += suffix;
  if (!path.empty() && !valid_tree_path(path)) return r_.fail(Reject::BadName), false;
  if (!first_ && !path_less(last_, path)) return r_.fail(Reject::BadOrder), false;
  const std::uint64_t size = r_.varint();
  if (size > kMaxNodeSize) r_.fail(Reject::TooLarge);
  node = r_.raw(size);
  first_ = false;
  last_ = path;
  return !r_.failure();
}

}  // namespace mirrorbus::proto
