#include "services/tree/pack_targets.hpp"

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using proto::Reject;

proto::Decoded<void> PackTargets::add(proto::ByteView path, proto::ByteView node,
                                      proto::ChildIds ids, const proto::Bytes* base) {
  proto::NodeReader reader(node, ids);
  proto::NodeReader old(base ? proto::ByteView(*base) : proto::ByteView());
  Entry entry, was;
  bool more = base && old.next(was);
  while (reader.next(entry)) {
    if (entry.type != EntryType::File || entry.size == 0) continue;
    while (more && was.name < entry.name) more = old.next(was);
    const bool had = more && was.name == entry.name && was.type == EntryType::File;
    if (had && was.content == entry.content) {
      if (was.size != entry.size) return proto::refuse(Reject::SizeLie);
      continue;
    }
    const auto [known, added] = by_content_.emplace(entry.content, targets_.size());
    if (added) targets_.push_back({{proto::join_path(path, entry.name), entry.content, entry.size}, {}});
    PackTarget& target = targets_[known->second];
    if (target.file.size != entry.size) return proto::refuse(Reject::SizeLie);
    if (!target.base && had && was.size > 0)
      target.base = FileRef{proto::join_path(path, entry.name), was.content, was.size};
  }
  if (reader.failure()) return proto::refuse(*reader.failure());
  return {};
}

std::optional<std::size_t> PackTargets::find(const proto::Hash& content) const {
  const auto it = by_content_.find(content);
  if (it == by_content_.end()) return std::nullopt;
  return it->second;
}

}  // namespace mirrorbus::tree
