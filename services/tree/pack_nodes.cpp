#include "services/tree/pack_nodes.hpp"

#include "services/tree/pack_reader.hpp"

#include <cassert>
#include <stdexcept>

namespace mirrorbus::tree {
namespace {

// Old and new bytes of a frame. One large frame would lose: at a low level and without long-distance
// matching a long prefix is out of reach.
constexpr std::size_t kFrameSize = 256 * 1024;
// Unchanged directories between two changed ones that may be taken into a range for its sake: they
// cost less than another range in the index.
constexpr std::size_t kBridgeSize = 4096;
constexpr int kBridgeSteps = 4;

}  // namespace

// Some directory of the base with the same node, best one that is no longer where it was.
std::optional<Bytes> NodeFrames::moved_from(const Hash& id, ByteView node) const {
  proto::NodeReader reader(node);
  proto::Entry entry;
  if (!reader.next(entry)) return std::nullopt;  // empty directories are shorter spelled out
  std::optional<Bytes> found;
  for (Bytes& path : index_.paths_of_node(id)) {
    const auto pending = index_.pending(path);
    if (pending && pending->removed) return path;
    if (!found) found = std::move(path);
  }
  return found;
}

void NodeFrames::flush() {
  if (!open_) return;
  if (open_->frame.layout.nodes > 0) sink_(std::move(open_->frame));
  open_.reset();
}

void NodeFrames::add_base(const DirectoryRow& old) {
  open_->prefix->add(old.path, without_child_ids(old.node));
}

// Goes on from the last range to directory `to` over a few small unchanged directories, if there are
// no others between.
bool NodeFrames::bridge(const Bytes& to) {
  auto& ranges = open_->frame.layout.base;
  if (ranges.empty()) return false;
  std::vector<DirectoryRow> between;
  std::size_t size = 0;
  int steps = 0;
  bool reached = false;
  const Bytes last = ranges.back().last;
  index_.each_node(last, to, [&](const Index::NodeRow& row) {
    if (row.path == last) return true;
    if (row.path == to) {
      reached = true;
      return false;
    }
    size += row.node.size();
    between.push_back({row.path, row.id, row.node, {}});
    return ++steps <= kBridgeSteps && size <= kBridgeSize;
  });
  if (!reached) return false;
  for (const DirectoryRow& row : between) add_base(row);
  ranges.back().last = to;
  return true;
}

void NodeFrames::add(const DirectoryRow& row, const DirectoryRow* old, const Bytes& bare) {
  // Two giants do not fit together; one does.
  if (old && bare.size() + old->node.size() > proto::kMaxPackSpan - kFrameSize) old = nullptr;
  const std::size_t size = bare.size() + (old ? old->node.size() : 0);
  if (open_ && open_->frame.records.size() + open_->frame.prefix.size() + size > kFrameSize)
    flush();
  if (!open_) {
    open_.emplace();
    open_->records.emplace(open_->frame.records);
    open_->prefix.emplace(open_->frame.prefix);
  }
  if (old) {
    if (!bridge(old->path)) open_->frame.layout.base.push_back({old->path, old->path});
    add_base(*old);
  }
  open_->records->add(row.path, bare);
  ++open_->frame.layout.nodes;
}

void NodeFrames::make(PackTargets* targets, std::vector<proto::PackMove>& moves) {
  index_.each_pending(Index::Order::Forward, [&](const PendingRow& p) {
    const Bytes& path = p.row.path;
    if (p.removed || (!moves.empty() && proto::within(moves.back().to, path))) return true;
    const auto old = index_.directory(path);
    if (!path.empty()) {
      if (auto from = moved_from(p.row.id, p.row.node)) {
        moves.push_back({path, std::move(*from)});
        return true;
      }
    }
    const Bytes bare = without_child_ids(p.row.node);
    if (old && without_child_ids(old->node) == bare) return true;  // only children's ids differ
    if (targets &&
        !targets->add(path, p.row.node, proto::ChildIds::Present, old ? &old->node : nullptr))
      throw std::runtime_error("the index holds a damaged node: " + path);
    add(p.row, old ? &*old : nullptr, bare);
    return true;
  });
  flush();
}

}  // namespace mirrorbus::tree
