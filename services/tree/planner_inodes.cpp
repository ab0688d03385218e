#include "services/tree/planner.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"

#include <algorithm>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

std::uint32_t Planner::new_inode(std::uint32_t dir, std::uint32_t at, const Entry& entry) {
  static const Hash empty = proto::sha256({});
  Plan::NewInode inode{dir, at};
  if (entry.type == EntryType::File) {
    inode.size = entry.size;
    inode.content = entry.content;
    const bool nothing_to_get = entry.size == 0 && entry.content == empty;
    inode.source = nothing_to_get ? Plan::Source::Make : Plan::Source::Fetch;
  }
  plan_.inodes.push_back(inode);
  if (in_.shared) keys_.push_back(entry.type == EntryType::File ? key(entry) : Hash());
  return static_cast<std::uint32_t>(plan_.inodes.size() - 1);
}

void Planner::add(std::vector<Plan::Op>& usual, std::vector<Plan::Op>& last, Plan::Op op,
                  ByteView name) {
  const bool late = in_.last && in_.last(proto::join_path(plan_.dirs[op.dir].path, name));
  (late ? last : usual).push_back(op);
  touch(op.dir, op.at);
}

void Planner::place(Plan::Op op, const Entry& entry) {
  ++plan_.inodes[op.from].uses;
  plan_.dirs[op.dir].names_change = true;
  add(plan_.place, plan_.place_last, op, entry.name);
}

// False if names of the group lie in directories that were not entered.
bool Planner::resolve_group(std::uint32_t number) {
  const auto found = met_.find(number);
  if (found == met_.end()) return true;  // unchanged, or of a type this mirror does not make
  const Group& group = found->second;
  const auto& members = group.members;
  if (!group.differs && !groups_.changed(number)) return true;
  const auto left_out = left_out_.find(number);
  if (members.size() + (left_out == left_out_.end() ? 0 : left_out->second) < groups_.size(number)) {
    bool grown = false;
    for (const Bytes& path : groups_.paths(number)) grown |= forced_.add_parent_of(path);
    if (!grown) fail(proto::Reject::BadField);
    return false;
  }

  // The inode that most of the names have already stays.
  std::uint64_t ino = 0;
  std::ptrdiff_t most = 0;
  for (const Member& member : members) {
    if (member.ino == 0 || claimed_.contains(member.ino)) continue;
    const auto names = std::ranges::count(members, member.ino, &Member::ino);
    if (names > most) std::tie(most, ino) = std::pair(names, member.ino);
    if (names == std::ssize(members)) break;  // all of them: the usual case, and not quadratic
  }
  std::uint32_t from;
  if (ino != 0) {
    claimed_.insert(ino);
    const auto keeps = std::ranges::find(members, ino, &Member::ino);
    from = static_cast<std::uint32_t>(plan_.kept.size());
    plan_.kept.push_back({keeps->dir, keeps->at, keeps->was});
    if (keeps->metadata)
      add(plan_.change, plan_.change_last, {keeps->dir, keeps->at, keeps->was, kNone}, keeps->name);
  } else {
    from = new_inode(members.front().dir, members.front().at, group.entry);
  }
  for (const Member& member : members) {
    plan_.members.push_back({member.dir, member.at, number});
    touch(member.dir, member.at);
    if (ino != 0 && member.ino == ino) continue;
    if (member.ino != 0) let_go(member.dir, member.was, group.entry, member.old_group);
    const Plan::Op op{member.dir, member.at, member.was, from};
    if (ino == 0) {
      ++plan_.inodes[from].uses;
      add(plan_.place, plan_.place_last, op, member.name);
    } else {
      add(plan_.link, plan_.link_last, op, member.name);
    }
    plan_.dirs[member.dir].names_change = true;
  }
  return true;
}

void Planner::resolve_single(const Single& single) {
  const Plan::Op op{single.dir, single.at, single.was, kNone};
  if (claimed_.insert(single.ino).second) {
    touch(single.dir, single.at);  // its link count and so its ctime change
    if (single.metadata) add(plan_.change, plan_.change_last, op, single.entry.name);
    return;
  }
  place({op.dir, op.at, op.was, new_inode(op.dir, op.at, single.entry)}, single.entry);
}

namespace {

// Equal ones in order of their numbers.
template <class Key>
void sort_by(std::vector<std::uint32_t>& numbers, Key key) {
  std::ranges::sort(numbers, [&](std::uint32_t a, std::uint32_t b) {
    const auto by = key(a) <=> key(b);
    return by != 0 ? by < 0 : a < b;
  });
}

}  // namespace

const Hash& Planner::key_of(std::uint32_t number) const {
  return in_.shared ? keys_[number] : plan_.inodes[number].content;
}

// Old inodes that no name keeps become new ones that they fit.
void Planner::take_free(std::vector<std::uint32_t>& order) {
  if (free_.empty()) return;
  const auto key = [this](std::uint32_t number) -> const Hash& { return key_of(number); };
  sort_by(order, key);
  std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> free;  // by the first that wants it
  for (auto at = static_cast<std::uint32_t>(free_.size()); at-- > 0;) {
    const auto found = std::ranges::lower_bound(order, free_[at].key, {}, key);
    if (found != order.end() && key(*found) == free_[at].key) free[*found].push_back(at);
  }
  for (std::size_t i = 0; i < order.size();) {
    const std::uint32_t first = order[i];
    const auto candidates = free.find(first);
    for (; i < order.size() && key(order[i]) == key(first); ++i) {
      if (candidates == free.end() || candidates->second.empty()) continue;
      const Free& from = free_[candidates->second.back()];
      candidates->second.pop_back();
      Plan::NewInode& inode = plan_.inodes[order[i]];
      inode.source = Plan::Source::Take;
      inode.from = from.dir;
      inode.from_at = from.was;
    }
  }
}

// By numbers in order of content: at a first sync these are all there is.
void Planner::find_contents() {
  std::vector<std::uint32_t> order;
  for (std::uint32_t number = 0; number < plan_.inodes.size(); ++number)
    if (const auto& inode = plan_.inodes[number];
        inode.source == Plan::Source::Fetch && inode.size > 0)
      order.push_back(number);
  if (order.empty()) return;
  take_free(order);
  sort_by(order, [this](std::uint32_t number) -> const Hash& {
    return plan_.inodes[number].content;
  });
  std::vector<std::uint32_t> elsewhere;
  for (std::size_t i = 0; i < order.size();) {
    const std::uint32_t first = order[i];
    const Hash& content = plan_.inodes[first].content;
    for (; i < order.size() && plan_.inodes[order[i]].content == content; ++i) {
      Plan::NewInode& inode = plan_.inodes[order[i]];
      if (inode.source != Plan::Source::Fetch) continue;
      if (order[i] != first) {
        inode.source = Plan::Source::Same;
        inode.from = first;
      } else if (in_.old_root && !(in_.offered && in_.offered(content))) {
        elsewhere.push_back(first);
      }
    }
  }
  if (!elsewhere.empty()) copy_from_the_rest(elsewhere);
}

// Contents that stay somewhere in the old tree. `wanted`: inodes in order of content.
void Planner::copy_from_the_rest(const std::vector<std::uint32_t>& wanted) {
  std::unordered_map<Bytes, std::uint32_t> known;
  for (std::uint32_t dir = 0; dir < plan_.dirs.size(); ++dir)
    if (plan_.dirs[dir].exists) known.emplace(plan_.dirs[dir].path, dir);
  const auto inode_of = [&](const Hash& hash) -> Plan::NewInode* {
    const auto at = std::ranges::lower_bound(wanted, hash, {}, [this](std::uint32_t number) {
      return plan_.inodes[number].content;
    });
    if (at == wanted.end() || plan_.inodes[*at].content != hash) return nullptr;
    return &plan_.inodes[*at];
  };
  in_.old.find_contents(
      [&](const Hash& hash) {
        const Plan::NewInode* inode = inode_of(hash);
        return inode && inode->source == Plan::Source::Fetch;
      },
      [&](ByteView path, std::uint32_t was, const Entry& entry, const EntryStat&) {
        Plan::NewInode& inode = *inode_of(entry.content);
        if (inode.source != Plan::Source::Fetch) return;  // found already
        const auto [dir, is_new] =
            known.try_emplace(Bytes(path), static_cast<std::uint32_t>(plan_.dirs.size()));
        if (is_new) {
          Plan::Directory source;
          source.path = path;
          source.exists = source.source_only = true;
          plan_.dirs.push_back(std::move(source));
        }
        inode.source = Plan::Source::Copy;
        inode.from = dir->second;
        inode.from_at = was;
      });
}

void Planner::finish() {
  for (std::uint32_t number = 0; number < plan_.dirs.size(); ++number) {
    const Plan::Directory& dir = plan_.dirs[number];
    if (!dir.stays() || dir.left_out) continue;
    if (!dir.exists) plan_.make.push_back(number);
    if (dir.exists && !dir.names_change && !dir.unlock && !dir.differs) continue;
    plan_.finish.push_back(number);
    if (dir.parent == kNone)
      plan_.root_changes = true;
    else
      touch(dir.parent, dir.at);
  }
  const auto by_place = [](const Plan::Op& a, const Plan::Op& b) {
    return std::pair(a.dir, a.at) < std::pair(b.dir, b.at);
  };
  for (auto* ops : {&plan_.place, &plan_.link, &plan_.change, &plan_.place_last, &plan_.link_last,
                    &plan_.change_last})
    std::ranges::sort(*ops, by_place);
  std::ranges::sort(plan_.members);
  std::ranges::sort(plan_.touched);
  const auto doubled = std::ranges::unique(plan_.touched);
  plan_.touched.erase(doubled.begin(), doubled.end());
}

}  // namespace mirrorbus::tree
