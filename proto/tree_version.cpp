#include "proto/tree_version.hpp"

#include "proto/limits.hpp"
#include "proto/value.hpp"

#include <cassert>
#include <set>

namespace mirrorbus::proto {
namespace {

constexpr ByteView kLinksMagic("mbl\x01", 4);
constexpr ByteView kOwnersMagic("mbo\x01", 4);
constexpr ByteView kTreeMagic("mirrorbus tree 1");
constexpr ByteView kVersionMagic("mirrorbus vers 1");
static_assert(kTreeMagic.size() == 16 && kVersionMagic.size() == 16);

void expect(Reader& r, ByteView magic) {
  if (r.raw(magic.size()) != magic) r.fail(Reject::BadMagic);
}

Bytes path(Reader& r) {
  const std::uint64_t size = r.varint();
  if (size > kMaxPathSize) r.fail(Reject::TooLarge);
  const ByteView bytes = r.raw(size);
  if (!r.failure() && !valid_tree_path(bytes)) r.fail(Reject::BadName);
  return Bytes(bytes);
}

void put_names(Writer& w, const std::map<std::uint32_t, Bytes>& names) {
  w.varint(names.size());
  for (const auto& [id, name] : names) {
    assert(id != UINT32_MAX && valid_owner_name(name));
    w.varint(id).short_string(name);
  }
}

std::map<std::uint32_t, Bytes> get_names(Reader& r) {
  std::map<std::uint32_t, Bytes> names;
  // Three bytes at least for each, or reading stops at the end of what is there.
  for (std::uint64_t left = r.varint(); left > 0 && !r.failure(); --left) {
    const std::uint64_t id = r.varint();
    const ByteView name = r.short_string();
    if (r.failure()) break;
    if (id >= UINT32_MAX)
      r.fail(Reject::BadField);
    else if (!names.empty() && id <= names.rbegin()->first)
      r.fail(Reject::BadOrder);
    else if (!valid_owner_name(name))
      r.fail(Reject::BadName);
    else
      names.emplace_hint(names.end(), static_cast<std::uint32_t>(id), name);
  }
  return names;
}

}  // namespace

TreeId TreeId::from_bytes(ByteView bytes) {
  assert(bytes.size() == kSize);
  TreeId id;
  std::memcpy(id.octets.data(), bytes.data(), kSize);
  return id;
}

bool valid_owner_name(ByteView name) noexcept {
  return !name.empty() && name.size() <= kMaxNameSize &&
         name.find_first_of(ByteView("\0\n:", 3)) == ByteView::npos;
}

Bytes encode_links(const LinksTable& links) {
  Bytes out(kLinksMagic);
  Writer w(out);
  for (const auto& group : links.groups) {
    assert(group.size() >= 2);
    w.varint(group.size());
    for (const Bytes& path : group) w.varint(path.size()).raw(path);
  }
  return out;
}

Decoded<LinksTable> decode_links(ByteView bytes) {
  if (bytes.size() > kMaxLinksSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  expect(r, kLinksMagic);
  LinksTable links;
  std::set<Bytes> seen;
  while (!r.failure() && !r.at_end()) {
    std::uint64_t count = r.varint();
    if (count < 2) r.fail(Reject::BadCount);
    std::vector<Bytes> group;
    for (; count > 0 && !r.failure(); --count) {
      Bytes next = path(r);
      if (r.failure()) break;
      const bool grows = group.empty() ? links.groups.empty() ||
                                             path_less(links.groups.back().front(), next)
                                       : path_less(group.back(), next);
      if (!grows || !seen.insert(next).second) r.fail(Reject::BadOrder);
      group.push_back(std::move(next));
    }
    links.groups.push_back(std::move(group));
  }
  if (r.failure()) return refuse(*r.failure());
  return links;
}

Bytes encode_owners(const OwnersTable& owners) {
  Bytes out(kOwnersMagic);
  Writer w(out);
  put_names(w, owners.users);
  put_names(w, owners.groups);
  return out;
}

Decoded<OwnersTable> decode_owners(ByteView bytes) {
  if (bytes.size() > kMaxOwnersSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  expect(r, kOwnersMagic);
  OwnersTable owners;
  owners.users = get_names(r);
  owners.groups = get_names(r);
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  return owners;
}

Bytes encode_tree_root(const TreeRoot& root) {
  Bytes out(kTreeMagic);
  Writer w(out);
  encode_root_entry(w, root.entry);
  w.hash(root.links).hash(root.owners);
  return out;
}

Decoded<TreeRoot> decode_tree_root(ByteView bytes) {
  Reader r(bytes);
  expect(r, kTreeMagic);
  TreeRoot root;
  root.entry = decode_root_entry(r);
  root.links = r.hash();
  root.owners = r.hash();
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  return root;
}

Bytes encode_version(const VersionRecord& record) {
  assert(record.extensions.size() <= kMaxVersionExtensions);
  Bytes out(kVersionMagic);
  Writer w(out);
  w.raw(record.tree.view()).u64(record.number).hash(record.parent).hash(record.tree_hash);
  const TreeCounts& n = record.counts;
  w.varint(n.entries).varint(n.files).varint(n.directories).varint(n.symlinks).varint(n.bytes);
  w.u64(record.time_ns).varint(record.extensions.size()).raw(record.extensions);
  return out;
}

Decoded<VersionRecord> decode_version(ByteView bytes) {
  Reader r(bytes);
  expect(r, kVersionMagic);
  VersionRecord record;
  const ByteView tree = r.raw(TreeId::kSize);
  if (!r.failure()) record.tree = TreeId::from_bytes(tree);
  record.number = r.u64();
  record.parent = r.hash();
  record.tree_hash = r.hash();
  TreeCounts& n = record.counts;
  for (std::uint64_t* count : {&n.entries, &n.files, &n.directories, &n.symlinks, &n.bytes})
    *count = r.varint();
  record.time_ns = r.u64();
  const std::uint64_t size = r.varint();
  if (size > kMaxVersionExtensions) r.fail(Reject::TooLarge);
  record.extensions = r.raw(size);
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (record.number == 0 || record.tree.is_zero() || record.tree_hash.is_zero())
    return refuse(Reject::BadField);
  if (!record.extensions.empty()) {
    const auto map = unpack(record.extensions);
    if (!map) return refuse(map.error());
    if (!map->as_map()) return refuse(Reject::WrongType);
    // An empty map has a shorter spelling: nothing.
    if (map->as_map()->empty()) return refuse(Reject::NotCanonical);
  }
  return record;
}

}  // namespace mirrorbus::proto
