#include "services/tree/tree_view.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;

TreeView::TreeView(NodeById nodes, const proto::TreeRoot& root, Bytes links, Bytes owners)
    : nodes_(std::move(nodes)),
      root_id_(root.entry.content),
      tree_hash_(proto::tree_hash(root)),
      links_(std::move(links)),
      owners_(std::move(owners)) {}

TreeView::Directory TreeView::load(Bytes path, const proto::Hash& id) const {
  auto node = nodes_(id);
  if (!node) throw std::runtime_error("the node of directory '" + path + "' is not at hand");
  return {std::move(path), id, std::move(*node)};
}

// A directory's children are often asked for one after the other.
const proto::Hash* TreeView::child(Step& step, ByteView name) const {
  if (!step.listed) {
    proto::NodeReader reader(step.directory.node);
    Entry entry;
    while (reader.next(entry))
      if (entry.type == EntryType::Directory) step.children.emplace_back(entry.name, entry.content);
    step.listed = true;
  }
  const auto it = std::ranges::lower_bound(
      step.children, name, {}, [](const auto& c) -> ByteView { return c.first; });
  return it != step.children.end() && it->first == name ? &it->second : nullptr;
}

const TreeView::Directory* TreeView::directory(ByteView path) const {
  if (empty()) return nullptr;
  if (way_.empty()) way_.push_back({load({}, root_id_), {}, false});
  while (!proto::within(way_.back().directory.path, path)) way_.pop_back();
  while (way_.back().directory.path.size() < path.size()) {
    Step& step = way_.back();
    const Bytes& at = step.directory.path;
    const std::size_t start = at.empty() ? 0 : at.size() + 1;
    const ByteView name = path.substr(start, path.find('/', start) - start);
    const proto::Hash* id = child(step, name);
    if (!id) return nullptr;
    way_.push_back({load(proto::join_path(at, name), *id), {}, false});
  }
  return &way_.back().directory;
}

bool TreeView::visit_below(const Directory& from, ByteView first, ByteView last,
                           const std::function<bool(const Directory&)>& visit) const {
  proto::NodeReader reader(from.node);
  Entry entry;
  while (reader.next(entry)) {
    if (entry.type != EntryType::Directory) continue;
    Bytes path = proto::join_path(from.path, entry.name);
    if (proto::path_less(last, path)) return false;
    const bool inside = !proto::path_less(path, first);
    if (!inside && !proto::within(path, first)) continue;
    const Directory child = load(std::move(path), entry.content);
    if (inside && !visit(child)) return false;
    if (!visit_below(child, first, last, visit)) return false;
  }
  return true;
}

void TreeView::each(ByteView first, ByteView last,
                    const std::function<bool(const Directory&)>& visit) const {
  if (empty()) return;
  if (first == last) {
    if (const Directory* one = directory(first)) visit(*one);
    return;
  }
  const Directory root = load({}, root_id_);
  if (first.empty() && !visit(root)) return;
  visit_below(root, first, last, visit);
}

std::optional<Entry> find_entry(ByteView node, ByteView name, proto::ChildIds ids) {
  proto::NodeReader reader(node, ids);
  Entry entry;
  while (reader.next(entry)) {
    if (entry.name == name) return entry;
    if (entry.name > name) break;
  }
  return std::nullopt;
}

}  // namespace mirrorbus::tree
