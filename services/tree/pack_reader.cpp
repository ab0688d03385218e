#include "services/tree/pack_reader.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"

#include <algorithm>
#include <cassert>
#include <map>
#include <stdexcept>

#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;
using proto::PackHeader;
using proto::Reject;
using proto::refuse;

namespace {
// Node frames are gone through twice, forwards and backwards; kept in between up to this much.
constexpr std::uint64_t kKeptFrames = 64 * 1024 * 1024;
}  // namespace

Bytes PackBytes::read(std::uint64_t at, std::uint64_t size) const {
  assert(at <= size_ && size <= size_ - at);
  if (!file_) return bytes_.substr(at, size);
  Bytes bytes(size, '\0');
  for (std::size_t have = 0; have < size;) {
    const ssize_t n =
        ::pread(file_.get(), bytes.data() + have, size - have, static_cast<off_t>(at + have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) base::throw_errno("reading a delta pack");
    if (n == 0) throw std::runtime_error("a delta pack's file is shorter than it was");
    have += static_cast<std::size_t>(n);
  }
  return bytes;
}

Bytes without_child_ids(ByteView node) {
  Bytes out;
  proto::NodeWriter writer(out, proto::ChildIds::Omitted);
  proto::NodeReader reader(node);
  Entry entry;
  while (reader.next(entry)) writer.add(entry);
  if (reader.failure()) throw std::runtime_error("a node we hold is damaged");
  return out;
}

bool BaseRecords::add(ByteView path, const Bytes& node, std::uint64_t limit) {
  if (!writer_) new_run();
  writer_->add(path, without_child_ids(node));
  return bytes_.size() <= limit;
}

proto::Decoded<PackReader> PackReader::open(PackBytes bytes, const proto::PackRef* ref) {
  const std::uint64_t size = bytes.size();
  if (size < PackHeader::kSize) return refuse(Reject::Truncated);
  const Bytes head = bytes.read(0, PackHeader::kSize);
  const auto header = proto::decode_pack_header(head);
  if (!header) return refuse(header.error());
  const std::uint64_t index_end = PackHeader::kSize + header->index_stored;
  if (ref && (ref->index_size != index_end || ref->size != size)) return refuse(Reject::SizeLie);
  if (size < index_end) return refuse(Reject::Truncated);
  const Bytes stored = bytes.read(PackHeader::kSize, header->index_stored);
  if (ref && proto::Sha256().update(head).update(stored).finish() != ref->index_sha256)
    return refuse(Reject::BadHash);

  PackReader reader(std::move(bytes));
  const auto raw = reader.decoder_.decode(stored, {}, header->index_raw);
  if (!raw) return refuse(raw.error());
  auto index = proto::decode_pack_index(*raw);
  if (!index) return refuse(index.error());
  reader.index_ = std::move(*index);
  auto sets = proto::xattr_sets_of(reader.index_);
  if (!sets) return refuse(sets.error());
  reader.xattr_sets_ = std::move(*sets);
  reader.frames_at_ = index_end;
  if (reader.index_.frames_size() != size - index_end) return refuse(Reject::SizeLie);
  return reader;
}

proto::Decoded<PackReader::Tables> PackReader::read_tables(const TreeView& base) {
  Tables tables{base.links(), base.owners()};
  if (index_.tables_stored > 0) {
    const Bytes prefix = base.links() + base.owners();
    const std::uint64_t size = index_.links_size + index_.owners_size;
    if (prefix.size() + size > proto::kMaxPackSpan) return refuse(Reject::TooLarge);
    const auto raw = decoder_.decode(bytes_.read(frames_at_, index_.tables_stored), prefix, size);
    if (!raw) return refuse(raw.error());
    if (index_.links_size > 0) tables.links = raw->substr(0, index_.links_size);
    if (index_.owners_size > 0) tables.owners = raw->substr(index_.links_size);
  }
  if (proto::sha256(tables.links) != index_.root.links ||
      proto::sha256(tables.owners) != index_.root.owners)
    return refuse(Reject::BadHash);
  if (const auto links = proto::decode_links(tables.links); !links) return refuse(links.error());
  if (const auto owners = proto::decode_owners(tables.owners); !owners)
    return refuse(owners.error());
  return tables;
}

proto::Decoded<Bytes> PackReader::base_records(const TreeView& base,
                                               const proto::NodeFrame& frame) {
  const std::uint64_t limit = proto::kMaxPackSpan - frame.raw;
  BaseRecords records;
  bool fits = true;
  for (const proto::PathRange& range : frame.base) {
    bool found_first = false;
    base.each(range.first, range.last, [&](const TreeView::Directory& d) {
      found_first |= d.path == range.first;
      return fits = records.add(d.path, d.node, limit);
    });
    if (!fits) return refuse(Reject::TooLarge);
    if (!found_first) return refuse(Reject::MissingBase);
  }
  if (!frame.elsewhere.empty()) records.new_run();
  for (const Bytes& path : frame.elsewhere) {
    const TreeView::Directory* d = base.directory(path);
    if (!d) return refuse(Reject::MissingBase);
    if (!records.add(d->path, d->node, limit)) return refuse(Reject::TooLarge);
  }
  return records.take();
}

proto::Decoded<Bytes> PackReader::read_frame(const TreeView& base, std::size_t number) {
  const proto::NodeFrame& frame = index_.node_frames[number];
  const auto prefix = base_records(base, frame);
  if (!prefix) return refuse(prefix.error());
  return decoder_.decode(bytes_.read(frame_at_[number], frame.stored), *prefix, frame.raw);
}

proto::Decoded<void> PackReader::read_frames(const TreeView& base) {
  std::uint64_t at = frames_at_ + index_.tables_stored, total = 0;
  for (const proto::NodeFrame& frame : index_.node_frames) {
    frame_at_.push_back(at);
    at += frame.stored;
    total += frame.raw;
  }
  std::optional<Bytes> last;
  for (std::size_t i = 0; i < index_.node_frames.size(); ++i) {
    auto raw = read_frame(base, i);
    if (!raw) return refuse(raw.error());
    proto::NodeRecordReader records(*raw);
    Bytes path;
    ByteView node;
    std::uint64_t count = 0;
    while (records.next(path, node)) {
      if (last && !proto::path_less(*last, path)) return refuse(Reject::BadOrder);
      const TreeView::Directory* old = base.directory(path);
      if (index_.targets > 0) {
        const auto added =
            targets_.add(path, node, proto::ChildIds::Omitted, old ? &old->node : nullptr);
        if (!added) return refuse(added.error());
      }
      last = path;
      ++count;
    }
    if (records.failure()) return refuse(*records.failure());
    if (count != index_.node_frames[i].nodes) return refuse(Reject::BadCount);
    if (total <= kKeptFrames) frames_.push_back(std::move(*raw));
  }
  return {};
}

proto::Decoded<Hash> PackReader::put_together(const TreeView& base, const NodeSink& sink) {
  // Against tree order every child comes before its parent. Known ids wait here for their parents,
  // those of moves first: they have no children of their own in the pack.
  std::map<Bytes, std::map<Bytes, Hash>, proto::PathLess> open;
  std::optional<Hash> root;
  const auto know = [&](ByteView path, const Hash& id) {
    if (path.empty()) {
      root = id;
      return true;
    }
    return open[Bytes(proto::parent_path(path))].emplace(proto::last_name(path), id).second;
  };
  for (const proto::PackMove& move : index_.moves) {
    const TreeView::Directory* from = base.directory(move.from);
    if (!from) return refuse(Reject::MissingBase);
    know(move.to, from->id);
  }

  const auto close = [&](const Bytes& path, ByteView node, proto::ChildIds ids) {
    const auto known = open.extract(path);
    std::size_t used = 0;
    const TreeView::Directory* old =
        ids == proto::ChildIds::Omitted ? base.directory(path) : nullptr;
    proto::NodeReader was(old ? ByteView(old->node) : ByteView());
    Entry entry, old_entry;
    bool more = old && was.next(old_entry);
    Bytes whole;
    proto::NodeWriter writer(whole);
    proto::NodeReader reader(node, ids);
    while (reader.next(entry)) {
      if (entry.type == EntryType::Directory) {
        const Hash* id = nullptr;
        if (known) {
          if (const auto it = known.mapped().find(entry.name); it != known.mapped().end()) {
            id = &it->second;
            ++used;
          }
        }
        while (more && old_entry.name < entry.name) more = was.next(old_entry);
        const bool stood = more && old_entry.name == entry.name &&
                           old_entry.type == EntryType::Directory;
        if (id)
          entry.content = *id;
        else if (stood)
          entry.content = old_entry.content;
        else if (ids == proto::ChildIds::Omitted)
          return false;  // a directory nobody has described
      }
      writer.add(entry);
    }
    if (reader.failure() || whole.size() > proto::kMaxNodeSize) return false;
    if (known && used != known.mapped().size()) return false;
    const Hash id = proto::node_id(whole);
    sink(path, id, whole);
    return know(path, id);
  };
  // Directories that are only above something new, and come after `path`.
  const auto close_open_after = [&](const Bytes* path) {
    while (!open.empty() && (!path || proto::path_less(*path, open.rbegin()->first))) {
      const TreeView::Directory* old = base.directory(open.rbegin()->first);
      if (!old || !close(old->path, Bytes(old->node), proto::ChildIds::Present)) return false;
    }
    return true;
  };

  for (std::size_t i = index_.node_frames.size(); i-- > 0;) {
    Bytes again;
    if (frames_.empty()) {
      auto raw = read_frame(base, i);
      if (!raw) return refuse(raw.error());
      again = std::move(*raw);
    }
    proto::NodeRecordReader records(frames_.empty() ? again : frames_[i]);
    std::vector<std::pair<Bytes, ByteView>> nodes;
    Bytes path;
    ByteView node;
    while (records.next(path, node)) nodes.emplace_back(path, node);
    for (auto n = nodes.rbegin(); n != nodes.rend(); ++n)
      if (!close_open_after(&n->first) || !close(n->first, n->second, proto::ChildIds::Omitted))
        return refuse(Reject::BadHash);
  }
  if (!close_open_after(nullptr)) return refuse(Reject::BadHash);
  if (!root) {
    // Only the root's own metadata, or only tables, have changed.
    const TreeView::Directory* old = base.directory({});
    if (!old) return refuse(Reject::BadHash);
    root = old->id;
  }
  return *root;
}

namespace {

std::optional<FileRef> file_at(const TreeView& base, const Bytes& path) {
  const TreeView::Directory* dir = base.directory(proto::parent_path(path));
  if (!dir) return std::nullopt;
  const auto entry = find_entry(dir->node, proto::last_name(path));
  if (!entry || entry->type != EntryType::File) return std::nullopt;
  return FileRef{path, entry->content, entry->size};
}

}  // namespace

proto::Decoded<PackReader::Item> PackReader::resolve_item(const TreeView& base,
                                                          const proto::GroupTarget& target) const {
  using Base = proto::GroupTarget::Base;
  Item item{target.target, std::nullopt};
  if (target.base == Base::SamePath)
    item.base = targets_.all()[target.target].base;
  else if (target.base == Base::Elsewhere)
    item.base = file_at(base, target.from);
  if (target.base != Base::None && !item.base) return refuse(Reject::MissingBase);
  return item;
}

// Finds the base's files the index names by path.
proto::Decoded<void> PackReader::resolve(const TreeView& base) {
  const auto& targets = targets_.all();
  if (targets.size() != index_.targets) return refuse(Reject::BadCount);
  offered_.assign(targets.size(), false);
  for (const proto::PackCopy& copy : index_.copies) {
    const auto from = file_at(base, copy.from);
    if (!from) return refuse(Reject::MissingBase);
    if (from->hash != targets[copy.target].file.hash) return refuse(Reject::BadHash);
    copies_.push_back({copy.target, *from});
    offered_[copy.target] = true;
  }
  std::uint64_t at = frames_at_ + index_.tables_stored;
  for (const proto::NodeFrame& frame : index_.node_frames) at += frame.stored;
  for (const proto::ContentGroup& group : index_.groups) {
    std::uint64_t span = 0;
    auto& items = groups_.emplace_back();
    for (const proto::GroupTarget& t : group.targets) {
      auto item = resolve_item(base, t);
      if (!item) return refuse(item.error());
      for (const std::uint64_t size :
           {targets[t.target].file.size, item->base ? item->base->size : 0}) {
        if (size > proto::kMaxPackSpan - span) return refuse(Reject::TooLarge);
        span += size;
      }
      offered_[t.target] = true;
      items.push_back(std::move(*item));
    }
    group_at_.push_back(at);
    at += group.stored;
  }
  return resolve_large(base, at);
}

// The first piece lies at `at`.
proto::Decoded<void> PackReader::resolve_large(const TreeView& base, std::uint64_t at) {
  for (const proto::PackLarge& large : index_.large) {
    auto item = resolve_item(base, large.target);
    if (!item) return refuse(item.error());
    std::uint64_t left = targets_.all()[large.target.target].file.size;
    auto& places = piece_at_.emplace_back();
    for (const proto::PackPiece& piece : large.pieces) {
      if (piece.size > left) return refuse(Reject::SizeLie);
      left -= piece.size;
      const std::uint64_t base_size = item->base->size;
      if (piece.base_offset > base_size || piece.base_size > base_size - piece.base_offset)
        return refuse(Reject::MissingBase);
      places.push_back(at);
      at += piece.stored;
    }
    if (left > 0) return refuse(Reject::SizeLie);
    offered_[large.target.target] = true;
    large_.push_back(std::move(*item));
  }
  return {};
}

proto::Decoded<Bytes> PackReader::read_piece(std::size_t large, std::size_t piece,
                                             PatchDecoder& decoder, ByteView base) const {
  const proto::PackPiece& which = index_.large.at(large).pieces.at(piece);
  if (base.size() != which.base_size) return refuse(Reject::MissingBase);
  return decoder.decode(bytes_.read(piece_at_.at(large).at(piece), which.stored), base, which.size);
}

proto::Decoded<PackReader::Tables> PackReader::read_nodes(const TreeView& base,
                                                          const Hash& expected,
                                                          const NodeSink& sink) {
  if (index_.base != base.tree_hash()) return refuse(Reject::MissingBase);
  if (proto::tree_hash(index_.root) != expected) return refuse(Reject::BadHash);
  auto tables = read_tables(base);
  if (!tables) return tables;
  targets_ = {};
  copies_.clear();
  groups_.clear();
  group_at_.clear();
  large_.clear();
  piece_at_.clear();
  frame_at_.clear();
  frames_.clear();
  if (const auto frames = read_frames(base); !frames) return refuse(frames.error());
  const auto root = put_together(base, sink);
  frames_.clear();
  if (!root) return refuse(root.error());
  if (*root != index_.root.entry.content) return refuse(Reject::BadHash);
  if (const auto found = resolve(base); !found) return refuse(found.error());
  return tables;
}

bool PackReader::offers(const Hash& content) const {
  const auto target = targets_.find(content);
  return target && offered_[*target];
}

proto::Decoded<void> PackReader::read_group(std::size_t number, PatchDecoder& decoder,
                                            const ReadBase& read, const ContentSink& sink) const {
  const auto& items = groups_.at(number);
  Bytes prefix;
  std::uint64_t size = 0;
  for (const Item& item : items) {
    size += targets_.all()[item.target].file.size;
    if (!item.base) continue;
    const auto base = read(*item.base);
    if (!base || base->size() != item.base->size || proto::sha256(*base) != item.base->hash)
      return refuse(Reject::MissingBase);
    prefix += *base;
  }
  const auto stored = bytes_.read(group_at_.at(number), index_.groups[number].stored);
  const auto raw = decoder.decode(stored, prefix, size);
  if (!raw) return refuse(raw.error());
  ByteView rest = *raw;
  for (const Item& item : items) {
    const PackTarget& target = targets_.all()[item.target];
    const ByteView content = rest.substr(0, target.file.size);
    rest.remove_prefix(target.file.size);
    if (proto::sha256(content) != target.file.hash) return refuse(Reject::BadHash);
    sink(target, content);
  }
  return {};
}

}  // namespace mirrorbus::tree
