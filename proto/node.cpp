#include "proto/node.hpp"

#include "proto/limits.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::proto {
namespace {

constexpr ByteView kMagic("mbn\x01", 4);
constexpr std::uint8_t kXattrsFollow = 0x02;  // on the wire only
constexpr std::uint32_t kSymlinkMode = 0777;

bool valid_target(ByteView target) {
  return !target.empty() && target.size() <= kMaxLinkTargetSize &&
         target.find('\0') == ByteView::npos;
}

// Seconds are a difference modulo 2^64, so that every pair of times has one.
std::int64_t minus(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
std::int64_t plus(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

void put_entry(Writer& w, const Entry& entry, std::int64_t& mtime_s, ChildIds ids) {
  assert(entry.mode <= 07777 && entry.mtime_ns < 1'000'000'000);
  assert((entry.flags & ~kEntryImmutable) == 0);
  w.short_string(entry.name).u8(static_cast<std::uint8_t>(entry.type));
  w.varint(entry.mode).varint(entry.uid).varint(entry.gid);
  w.zigzag(minus(entry.mtime_s, mtime_s)).varint(entry.mtime_ns);
  mtime_s = entry.mtime_s;
  w.u8(entry.flags | (entry.xattrs ? kXattrsFollow : 0));
  if (entry.xattrs) w.hash(*entry.xattrs);
  switch (entry.type) {
    case EntryType::File:
      w.varint(entry.size).hash(entry.content);
      break;
    case EntryType::Directory:
      if (ids == ChildIds::Present) w.hash(entry.content);
      break;
    case EntryType::Symlink:
      assert(entry.mode == kSymlinkMode && valid_target(entry.target));
      w.varint(entry.target.size()).raw(entry.target);
      break;
    case EntryType::CharDevice:
    case EntryType::BlockDevice:
      w.varint(entry.major).varint(entry.minor);
      break;
    case EntryType::Fifo:
    case EntryType::Socket:
      break;
  }
}

std::uint32_t small(Reader& r) {
  const std::uint64_t value = r.varint();
  if (value > UINT32_MAX) r.fail(Reject::BadField);
  return static_cast<std::uint32_t>(value);
}

std::uint32_t owner(Reader& r) {
  const std::uint32_t id = small(r);
  if (id == UINT32_MAX) r.fail(Reject::BadField);
  return id;
}

Hash some_hash(Reader& r) {
  const Hash hash = r.hash();
  if (hash.is_zero()) r.fail(Reject::BadField);
  return hash;
}

// Everything after the name; the name has been read and judged.
void get_entry(Reader& r, Entry& entry, std::int64_t& mtime_s, ChildIds ids) {
  entry.type = static_cast<EntryType>(r.u8());
  entry.mode = small(r);
  if (entry.mode > 07777) r.fail(Reject::BadMode);
  entry.uid = owner(r);
  entry.gid = owner(r);
  entry.mtime_s = mtime_s = plus(mtime_s, r.zigzag());
  entry.mtime_ns = small(r);
  if (entry.mtime_ns >= 1'000'000'000) r.fail(Reject::BadField);
  const std::uint8_t flags = r.u8();
  if (flags & ~(kEntryImmutable | kXattrsFollow)) r.fail(Reject::BadFlags);
  entry.flags = flags & kEntryImmutable;
  entry.xattrs.reset();
  if (flags & kXattrsFollow) entry.xattrs = some_hash(r);
  entry.size = 0;
  entry.content = {};
  entry.target.clear();
  entry.major = entry.minor = 0;
  if (r.failure()) return;
  switch (entry.type) {
    case EntryType::File:
      entry.size = r.varint();
      if (entry.size > INT64_MAX) r.fail(Reject::TooLarge);
      entry.content = some_hash(r);
      return;
    case EntryType::Directory:
      if (ids == ChildIds::Present) entry.content = some_hash(r);
      return;
    case EntryType::Symlink: {
      if (entry.mode != kSymlinkMode) return r.fail(Reject::BadMode);
      const std::uint64_t size = r.varint();
      if (size > kMaxLinkTargetSize) return r.fail(Reject::BadTarget);
      entry.target = r.raw(size);
      if (!r.failure() && !valid_target(entry.target)) r.fail(Reject::BadTarget);
      return;
    }
    case EntryType::CharDevice:
    case EntryType::BlockDevice:
      entry.major = small(r);
      entry.minor = small(r);
      return;
    case EntryType::Fifo:
    case EntryType::Socket:
      return;
  }
  r.fail(Reject::BadField);
}

}  // namespace

const Entry* Node::find(ByteView name) const {
  const auto it = std::ranges::lower_bound(entries, name, {}, [](const Entry& e) -> ByteView {
    return e.name;
  });
  return it != entries.end() && it->name == name ? &*it : nullptr;
}

NodeWriter::NodeWriter(Bytes& out, ChildIds ids) : out_(out), ids_(ids) { out_ += kMagic; }

void NodeWriter::add(const Entry& entry) {
  assert(valid_entry_name(entry.name) && (last_.empty() || last_ < entry.name));
  last_ = entry.name;
  Writer w(out_);
  put_entry(w, entry, mtime_s_, ids_);
}

NodeReader::NodeReader(ByteView bytes, ChildIds ids) : r_(bytes), ids_(ids) {
  if (bytes.size() > kMaxNodeSize)
    r_.fail(Reject::TooLarge);
  else if (r_.raw(kMagic.size()) != kMagic)
    r_.fail(Reject::BadMagic);
}

bool NodeReader::next(Entry& entry) {
  if (r_.failure() || r_.at_end()) return false;
  const ByteView name = r_.short_string();
  if (r_.failure()) return false;
  if (!valid_entry_name(name)) return r_.fail(Reject::BadName), false;
  if (name <= last_) return r_.fail(Reject::BadOrder), false;
  last_ = name;
  entry.name = name;
  get_entry(r_, entry, mtime_s_, ids_);
  return !r_.failure();
}

Bytes encode_node(const Node& node, ChildIds ids) {
  Bytes out;
  NodeWriter writer(out, ids);
  for (const Entry& entry : node.entries) writer.add(entry);
  return out;
}

Decoded<Node> decode_node(ByteView bytes, ChildIds ids) {
  NodeReader reader(bytes, ids);
  Node node;
  Entry entry;
  while (reader.next(entry)) node.entries.push_back(entry);
  if (reader.failure()) return refuse(*reader.failure());
  return node;
}

void encode_root_entry(Writer& w, const Entry& entry) {
  assert(entry.name.empty() && entry.type == EntryType::Directory);
  std::int64_t mtime_s = 0;
  put_entry(w, entry, mtime_s, ChildIds::Present);
}

Entry decode_root_entry(Reader& r) {
  Entry entry;
  if (!r.short_string().empty()) r.fail(Reject::BadName);
  std::int64_t mtime_s = 0;
  get_entry(r, entry, mtime_s, ChildIds::Present);
  if (!r.failure() && entry.type != EntryType::Directory) r.fail(Reject::BadField);
  return entry;
}

}  // namespace mirrorbus::proto
