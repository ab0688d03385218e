#include "services/tree/changes.hpp"

#include <map>
#include <stdexcept>
#include <unordered_map>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Change;
using proto::ChangeOp;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

namespace {

// Beyond this many names that came or went, moves are told as what they look like: gone and new.
constexpr std::size_t kMaxMoves = 100'000;

class Diff {
 public:
  using Sink = std::function<bool(const TreeChange&)>;
  Diff(const TreeSide& was, const TreeSide& now) : was_(was), now_(now) {}

  // The first pass: what has one content and two paths.
  void find_moves() {
    std::unordered_map<Hash, std::vector<Bytes>> gone;
    std::size_t names = 0;
    sink_ = [&](const TreeChange& c) {
      if (c.change.op == ChangeOp::Delete && !last_.is_zero()) {
        gone[last_].push_back(c.change.path);
        ++names;
      }
      return names <= kMaxMoves;
    };
    root();
    if (gone.empty() || names > kMaxMoves) return;
    sink_ = [&](const TreeChange& c) {
      if (c.change.op != ChangeOp::Add || last_.is_zero()) return true;
      const auto it = gone.find(last_);
      if (it == gone.end() || it->second.empty()) return true;
      moved_from_[c.change.path] = it->second.back();
      moved_to_[it->second.back()] = c.change.path;
      it->second.pop_back();
      return true;
    };
    root();
  }

  void tell(Sink sink) {
    sink_ = [this, &sink](const TreeChange& c) {
      if (c.change.op == ChangeOp::Add && moved_from_.contains(c.change.path)) return true;
      if (c.change.op == ChangeOp::Delete) {
        if (const auto it = moved_to_.find(c.change.path); it != moved_to_.end()) {
          TreeChange move = c;
          move.change = {ChangeOp::Move, c.change.path, it->second};
          return sink(move);
        }
      }
      return sink(c);
    };
    root();
  }

 private:
  void root() {
    going_ = true;
    if (was_.root.content != now_.root.content)
      directory({}, was_.root, now_.root);
    else if (!(was_.root == now_.root))
      meta({}, was_.root, now_.root);
  }

  void say(ChangeOp op, const Bytes& path, const Entry& entry, bool times_only = false) {
    if (!going_) return;
    const bool directory = entry.type == EntryType::Directory;
    // What may be recognised elsewhere: contents, and directories that hold something.
    static const Hash kEmptyNode = proto::node_id(proto::encode_node({}));
    last_ = {};
    if ((entry.type == EntryType::File && entry.size > 0) ||
        (directory && entry.content != kEmptyNode))
      last_ = entry.content;
    going_ = sink_({{op, path, {}}, directory, times_only});
  }

  void meta(const Bytes& path, const Entry& was, const Entry& now) {
    Entry with = was;
    with.mtime_s = now.mtime_s;
    with.mtime_ns = now.mtime_ns;
    with.content = now.content;
    say(ChangeOp::Meta, path, now, with == now);
  }

  proto::Node node(const TreeSide& side, const Bytes& path, const Hash& id) {
    auto node = proto::decode_node(side.node(path, id));
    if (!node) throw std::runtime_error("a node we hold is damaged: " + path);
    return std::move(*node);
  }

  // Both are directories and their nodes differ.
  void directory(const Bytes& path, const Entry& was, const Entry& now) {
    const proto::Node old = node(was_, path, was.content), fresh = node(now_, path, now.content);
    // What came, went or was replaced moves the mtime by itself.
    bool explained = old.entries.size() != fresh.entries.size();
    for (std::size_t i = 0; !explained && i < old.entries.size(); ++i) {
      const Entry &a = old.entries[i], &b = fresh.entries[i];
      explained = a.name != b.name || a.type != b.type ||
                  (a.type != EntryType::Directory && a.content != b.content);
    }
    Entry with = was;
    with.content = now.content;
    if (explained) {
      with.mtime_s = now.mtime_s;
      with.mtime_ns = now.mtime_ns;
    }
    if (!(with == now)) meta(path, was, now);

    auto a = old.entries.begin();
    auto b = fresh.entries.begin();
    while (going_ && (a != old.entries.end() || b != fresh.entries.end())) {
      if (b == fresh.entries.end() || (a != old.entries.end() && a->name < b->name)) {
        say(ChangeOp::Delete, proto::join_path(path, a->name), *a);
        ++a;
      } else if (a == old.entries.end() || b->name < a->name) {
        say(ChangeOp::Add, proto::join_path(path, b->name), *b);
        ++b;
      } else {
        if (!(*a == *b)) entry(proto::join_path(path, a->name), *a, *b);
        ++a;
        ++b;
      }
    }
  }

  void entry(const Bytes& path, const Entry& was, const Entry& now) {
    const bool content = was.type != now.type || was.content != now.content ||
                         was.target != now.target || was.size != now.size ||
                         was.major != now.major || was.minor != now.minor;
    if (was.type == EntryType::Directory && now.type == EntryType::Directory) {
      if (content)
        directory(path, was, now);
      else
        meta(path, was, now);
    } else if (content) {
      say(ChangeOp::Change, path, now);
    } else {
      meta(path, was, now);
    }
  }

  const TreeSide& was_;
  const TreeSide& now_;
  Sink sink_;
  Hash last_;  // what the change just told of is known by; zero: nothing
  bool going_ = true;
  std::unordered_map<Bytes, Bytes> moved_from_, moved_to_;
};

}  // namespace

void diff_trees(const std::optional<TreeSide>& was, const TreeSide& now,
                const std::function<bool(const TreeChange&)>& sink) {
  if (!was) {
    auto node = proto::decode_node(now.node({}, now.root.content));
    if (!node) throw std::runtime_error("a node we hold is damaged: the root's");
    for (const Entry& entry : node->entries)
      if (!sink({{ChangeOp::Add, entry.name, {}}, entry.type == EntryType::Directory, false})) return;
    return;
  }
  Diff diff(*was, now);
  diff.find_moves();
  diff.tell(sink);
}

}  // namespace mirrorbus::tree
