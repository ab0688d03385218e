#include "services/tree/itemize.hpp"

#include "proto/value.hpp"
#include "services/tree/tree_view.hpp"
#include "services/tree/xattr_change.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::NodeReader;

namespace {

char letter_of(EntryType type) {
  switch (type) {
    case EntryType::Directory: return 'd';
    case EntryType::Symlink: return 'L';
    case EntryType::CharDevice:
    case EntryType::BlockDevice: return 'D';
    case EntryType::Fifo:
    case EntryType::Socket: return 'S';
    case EntryType::File: break;
  }
  return 'f';
}

bool same_content(const Entry& a, const Entry& b) {
  return a.size == b.size && a.content == b.content && a.target == b.target && a.major == b.major &&
         a.minor == b.minor;
}

// Which group a path is in.
class Groups {
 public:
  explicit Groups(const proto::LinksTable& links) {
    for (std::uint32_t at = 0; at < links.groups.size(); ++at)
      for (const Bytes& path : links.groups[at]) of_.emplace(path, at);
  }
  std::optional<std::uint32_t> of(const Bytes& path) const {
    const auto found = of_.find(path);
    return found == of_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::unordered_map<Bytes, std::uint32_t> of_;
};

// A node's entries one after the other; of nothing, none.
class Entries {
 public:
  explicit Entries(Bytes node) : node_(std::move(node)), reader_(node_) { advance(); }
  Entries() : reader_(node_) {}
  Entries(const Entries&) = delete;
  Entries& operator=(const Entries&) = delete;

  const Entry* get() const { return there_ ? &entry_ : nullptr; }
  void advance() {
    there_ = reader_.next(entry_);
    if (!there_ && reader_.failure()) throw std::runtime_error("a node we hold is damaged");
  }

 private:
  Bytes node_;
  NodeReader reader_;
  Entry entry_;
  bool there_ = false;
};

std::optional<Entry> entry_at(const ItemizedTree& tree, ByteView path) {
  Entry at = tree.root.entry;
  while (!path.empty()) {
    if (at.type != EntryType::Directory) return std::nullopt;
    const ByteView name = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), name.size() + 1));
    const Bytes node = tree.node(at.content);
    const auto found = find_entry(node, name);
    if (!found) return std::nullopt;
    at = *found;
  }
  return at;
}

}  // namespace

struct Itemizer::Impl {
  Impl(std::optional<ItemizedTree> was_in, ItemizedTree now_in, bool owners_in)
      : was(std::move(was_in)),
        now(std::move(now_in)),
        owners(owners_in),
        old_groups(was ? was->links : proto::LinksTable{}),
        groups(now.links) {
    if (was && was->root.links != now.root.links) note_regrouped();
  }

  std::optional<ItemizedTree> was;
  ItemizedTree now;
  bool owners;
  Groups old_groups, groups;
  // Directories above names whose groups are others now, though their nodes may be equal.
  std::unordered_set<Bytes> regrouped;

  void note_regrouped() {
    const auto note = [this](const proto::LinksTable& links, const Groups& others,
                             const proto::LinksTable& other_links) {
      for (const auto& group : links.groups) {
        const auto other = others.of(group.front());
        if (other && other_links.groups[*other] == group) continue;
        for (const Bytes& path : group)
          for (ByteView up = proto::parent_path(path);; up = proto::parent_path(up)) {
            if (!regrouped.emplace(up).second || up.empty()) break;
          }
      }
    };
    note(was->links, groups, now.links);
    note(now.links, old_groups, was->links);
  }
};

namespace {

// One pass from `after` on.
class Pass {
 public:
  using Sink = std::function<bool(const Itemized&)>;
  Pass(const std::optional<ItemizedTree>& was, const ItemizedTree& now, bool owners,
       const Groups& old_groups, const Groups& groups, const std::unordered_set<Bytes>& regrouped,
       const Sink& sink)
      : was_(was), now_(now), owners_(owners), old_groups_(old_groups), groups_(groups),
        regrouped_(regrouped), sink_(sink) {}

  void run(const std::optional<Bytes>& after) {
    const Entry* old = was_ ? &was_->root.entry : nullptr;
    if (!after) {
      pair({}, old, &now_.root.entry);
    } else {
      below({}, old, &now_.root.entry, *after);
    }
  }

 private:
  static bool directory(const Entry* e) { return e && e->type == EntryType::Directory; }

  void pair(const Bytes& path, const Entry* old, const Entry* fresh) {
    line(path, old, fresh);
    below(path, old, fresh, {});
  }

  // What is in them, of which `after` (relative to `path`) and all before it has been told.
  void below(const Bytes& path, const Entry* old, const Entry* fresh, ByteView after) {
    const bool was = directory(old), is = directory(fresh);
    if (!going_ || (!was && !is)) return;
    if (was && is && old->content == fresh->content && !regrouped_.contains(path)) return;
    const ByteView first = after.substr(0, after.find('/'));
    const ByteView rest =
        first.size() < after.size() ? after.substr(first.size() + 1) : ByteView();
    Entries olds(was ? was_->node(old->content) : proto::encode_node({}));
    Entries news(is ? now_.node(fresh->content) : proto::encode_node({}));
    while (going_ && (olds.get() || news.get())) {
      const Entry* a = olds.get();
      const Entry* b = news.get();
      if (a && b && a->name != b->name) (a->name < b->name ? b : a) = nullptr;
      const Bytes& name = a ? a->name : b->name;
      if (first.empty() || name > first)
        pair(proto::join_path(path, name), a, b);
      else if (name == first)
        below(proto::join_path(path, name), a, b, rest);
      if (a) olds.advance();
      if (b) news.advance();
    }
  }

  void say(std::string letters, const Bytes& path, const Entry& entry, Bytes linked_to = {}) {
    Itemized item{std::move(letters), path, entry.type, {}, std::move(linked_to)};
    if (entry.type == EntryType::Symlink && item.letters.front() != '*') item.target = entry.target;
    going_ = sink_(item);
  }

  void line(const Bytes& path, const Entry* old, const Entry* fresh) {
    // What another type takes the place of is not told of, as rsync does not.
    if (!fresh) return say("*deleting  ", path, *old);
    const bool is_new = !old || old->type != fresh->type;
    const char type = letter_of(fresh->type);
    const auto group = groups_.of(path);
    if (group) {
      const Bytes& leader = leader_of(*group, *fresh);
      if (leader != path) return further_name(path, is_new ? nullptr : old, *fresh, leader);
    }
    if (is_new) return say(std::string{made_by(*fresh), type} + "+++++++++", path, *fresh);
    const bool content = fresh->type != EntryType::Directory && !same_content(*old, *fresh);
    const std::string rest = differences(*old, *fresh, content);
    const bool split = !group && fresh->type != EntryType::Directory && left_its_group(path);
    if (!content && !split && rest == ".........") return;
    say(std::string{content || split ? made_by(*fresh) : '.', type} + rest, path, *fresh);
  }

  void further_name(const Bytes& path, const Entry* old, const Entry& fresh, const Bytes& leader) {
    const char type = letter_of(fresh.type);
    if (!old) return say(std::string{'h', type} + "+++++++++", path, fresh, leader);
    std::string rest = differences(*old, fresh, false);
    const bool nothing = rest == ".........";
    const auto was = old_groups_.of(path);
    if (was && was == old_groups_.of(leader)) {
      if (!nothing) say(std::string{'h', type} + rest, path, fresh);
      return;
    }
    say(std::string{'h', type} + (nothing ? "         " : rest), path, fresh, leader);
  }

  static char made_by(const Entry& e) { return e.type == EntryType::File ? '>' : 'c'; }

  static std::optional<proto::XattrSet> xattrs_of(const ItemizedTree& tree, const Entry& entry) {
    if (!entry.xattrs) return proto::XattrSet();
    const auto bytes = tree.xattrs ? tree.xattrs(*entry.xattrs) : std::nullopt;
    const auto set = bytes ? proto::decode_xattr_set(*bytes)
                           : proto::refuse(proto::Reject::BadHash);
    return set ? std::optional(*set) : std::nullopt;
  }

  std::string differences(const Entry& a, const Entry& b, bool content) const {
    std::string s(9, '.');
    if (content) s[0] = 'c';
    if (a.type == EntryType::File && a.size != b.size) s[1] = 's';
    if (a.mtime_s != b.mtime_s || a.mtime_ns != b.mtime_ns) s[2] = 't';
    if (a.mode != b.mode) s[3] = 'p';
    if (owners_ && a.uid != b.uid) s[4] = 'o';
    if (owners_ && a.gid != b.gid) s[5] = 'g';
    if (a.xattrs != b.xattrs) {
      const auto was = xattrs_of(*was_, a), now = xattrs_of(now_, b);
      const XattrChange change =
          was && now ? compare_xattrs(*was, *now) : XattrChange{false, true};
      if (change.acls) s[7] = 'a';
      if (change.others) s[8] = 'x';
    }
    return s;
  }

  // The name of its group that the others are linked to: one that has the content already, else one
  // that is there, else the first.
  const Bytes& leader_of(std::uint32_t group, const Entry& fresh) {
    if (leader_group_ == group) return *leader_;
    leader_group_ = group;
    const auto& names = now_.links.groups[group];
    const Bytes* there = nullptr;
    for (const Bytes& name : names) {
      const auto old = was_ ? entry_at(*was_, name) : std::nullopt;
      if (!old || old->type != fresh.type) continue;
      if (!there) there = &name;
      if (!same_content(*old, fresh)) continue;
      there = &name;
      break;
    }
    leader_ = there ? there : &names.front();
    return *leader_;
  }

  bool left_its_group(const Bytes& path) const {
    const auto was = old_groups_.of(path);
    if (!was) return false;
    // The last one of a group whose other names have gone is the same file still.
    return std::ranges::any_of(was_->links.groups[*was], [&](const Bytes& name) {
      const auto other = name == path ? std::nullopt : entry_at(now_, name);
      return other && other->type != EntryType::Directory;
    });
  }
  const std::optional<ItemizedTree>& was_;
  const ItemizedTree& now_;
  const bool owners_;
  const Groups &old_groups_, &groups_;
  const std::unordered_set<Bytes>& regrouped_;
  const Sink& sink_;
  bool going_ = true;
  std::optional<std::uint32_t> leader_group_;
  const Bytes* leader_ = nullptr;
};

// How many bytes the UTF-8 character at the front has; 0 if it is none.
std::size_t utf8_size(ByteView text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return text.size() >= size && proto::valid_utf8(text.substr(0, size)) ? size : 0;
}

bool looks_escaped(ByteView text) {
  const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '9'; };
  return text.size() >= 5 && text[0] == '\\' && text[1] == '#' && digit(2) && digit(3) && digit(4);
}

}  // namespace

Itemizer::Itemizer(std::optional<ItemizedTree> was, ItemizedTree now, bool owners)
    : impl_(std::make_unique<Impl>(std::move(was), std::move(now), owners)) {}
Itemizer::~Itemizer() = default;

void Itemizer::each(std::optional<Bytes> after,
                    const std::function<bool(const Itemized&)>& sink) const {
  Pass(impl_->was, impl_->now, impl_->owners, impl_->old_groups, impl_->groups, impl_->regrouped,
       sink)
      .run(after);
}

std::string printable(ByteView name) {
  std::string out;
  while (!name.empty()) {
    const auto c = static_cast<unsigned char>(name.front());
    const std::size_t size = utf8_size(name);
    if (size == 0 || (c < ' ' && c != '\t') || c == 0x7f || looks_escaped(name)) {
      out += fmt::format("\\#{:03o}", c);
      name.remove_prefix(1);
    } else {
      out += name.substr(0, size);
      name.remove_prefix(size);
    }
  }
  return out;
}

std::string to_line(const Itemized& item) {
  std::string line = item.letters + " ";
  line += item.path.empty() ? "." : printable(item.path);
  if (item.type == EntryType::Directory) line += '/';
  if (!item.target.empty()) line += " -> " + printable(item.target);
  if (!item.linked_to.empty()) line += " => " + printable(item.linked_to);
  return line;
}

}  // namespace mirrorbus::tree
