#include "services/tree/planner.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"

#include <algorithm>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;
using proto::Reject;

namespace {

// One inode can be the other once its metadata is set.
bool same_thing(const Entry& a, const Entry& b) {
  return a.type == b.type && a.size == b.size && a.target == b.target && a.major == b.major &&
         a.minor == b.minor && (a.type != EntryType::File || a.content == b.content);
}

bool alike(const Entry& a, const Entry& b) {
  return same_thing(a, b) && proto::same_metadata(a, b);
}

bool is_directory(const Entry* entry) {
  return entry && entry->type == EntryType::Directory;
}

}  // namespace

Planner::Planner(const PlanInput& input, const LinkGroups& old_groups, const LinkGroups& groups,
                 ForcedDirectories& forced)
    : in_(input),
      old_groups_(old_groups),
      groups_(groups),
      forced_(forced),
      old_gone_(input.old_links.groups.size()) {}

proto::Decoded<std::optional<Plan>> Planner::run() {
  Pending root;
  root.dir.entry = in_.root.entry;
  root.dir.id = in_.root.entry.content;
  root.dir.exists = in_.old_root.has_value();
  root.stat = in_.old_root_stat;
  if (root.dir.exists) {
    root.differs = metadata_differs(*in_.old_root, in_.root.entry);
    root.enter = in_.everything || in_.old_root->content != root.dir.id || in_.old.uncertain({}) ||
                 forced_.contains({});
    root.dir.unlock = !in_.privileged && root.enter && (in_.old_root->mode & S_IRWXU) != S_IRWXU;
  }
  pending_.push_back(std::move(root));
  while (!pending_.empty() && !failure_) {
    Pending next = std::move(pending_.back());
    pending_.pop_back();
    go_through(std::move(next));
  }

  bool complete = true;
  for (std::uint32_t number = 0; number < in_.links.groups.size() && !failure_; ++number)
    complete = resolve_group(number) && complete;
  if (failure_) return proto::refuse(*failure_);
  if (!complete) return std::nullopt;
  for (const Single& single : singles_) resolve_single(single);
  find_contents();
  finish();
  return std::move(plan_);
}

void Planner::go_through(Pending pending) {
  const auto dir = static_cast<std::uint32_t>(plan_.dirs.size());
  const bool stays = pending.dir.stays();
  pending.dir.entered = pending.enter;
  const bool top_of_what_goes =
      !stays && pending.dir.at == kNone && plan_.dirs[pending.dir.parent].stays();
  pending.dir.differs = pending.differs;
  plan_.dirs.push_back(std::move(pending.dir));
  if (top_of_what_goes) plan_.remove_dirs.push_back(dir);
  if (!pending.enter) return;

  const Bytes path = plan_.dirs[dir].path;
  proto::Node node;
  if (stays) node = in_.nodes.node(plan_.dirs[dir].id);
  entries_ += node.entries.size();
  if (entries_ > in_.entries) return fail(Reject::BadCount);
  std::optional<OldDirectory> old;
  if (plan_.dirs[dir].exists) {
    old = in_.old.directory(path, pending.stat, stays ? &node : nullptr);
    if (!old) plan_.dirs[dir].exists = false;
  }

  const auto place = in_.policy.place(path);
  const auto& entries = node.entries;
  const std::size_t old_size = old ? old->node.entries.size() : 0;
  for (std::uint32_t at = 0, was = 0; at < entries.size() || was < old_size;) {
    const Entry* now = at < entries.size() ? &entries[at] : nullptr;
    const Entry* then = was < old_size ? &old->node.entries[was] : nullptr;
    if (now && then && now->name != then->name) {
      if (now->name < then->name)
        then = nullptr;
      else
        now = nullptr;
    }
    Meeting m{dir, kNone, kNone};
    if (now) {
      m.at = at++;
      // What this mirror does not make should not be there either.
      if (in_.policy.wanted(place, *now))
        m.now = now;
      else
        left_out(m, *now);
    }
    if (then) {
      m.was = was++;
      m.stat = old->stats[m.was];
      m.linked = !old->linked.empty() && old->linked[m.was];
      if (OldDirectory::known(m.stat))
        m.old = then;
      else
        m.in_the_way = true;
    }
    if (now || then) meet(m);
  }
  std::ranges::move(children_.rbegin(), children_.rend(), std::back_inserter(pending_));
  children_.clear();
}

void Planner::meet(const Meeting& m) {
  if (!m.now) {
    if (m.old || m.in_the_way) goes(m);
    return;
  }
  const ByteView directory = plan_.dirs[m.dir].path;
  if (directory.size() + 1 + m.now->name.size() > proto::kMaxPathSize)
    return fail(Reject::TooLarge);
  if (is_directory(m.now)) return meet_directory(m, proto::join_path(directory, m.now->name));

  const bool linked = !groups_.empty() || !old_groups_.empty() || m.linked;
  const Bytes path = linked ? proto::join_path(directory, m.now->name) : Bytes();
  if (linked && join_group(m, path)) return;
  if (m.old && can_become(*m.old, *m.now)) {
    if (!metadata_differs(*m.old, *m.now)) return;
    add(plan_.change, plan_.change_last, {m.dir, m.at, m.was, kNone}, m.now->name);
  } else {
    if (m.old) goes(m);
    place({m.dir, m.at, m.was, new_inode(m.dir, m.at, *m.now)}, *m.now);
  }
}

// An entry that this mirror does not make. Of a group the other names are the group; a directory is
// gone through for the index, which has all of the signed tree.
void Planner::left_out(const Meeting& m, const Entry& entry) {
  if (!is_directory(&entry)) {
    if (groups_.empty()) return;
    const auto number = groups_.of(proto::join_path(plan_.dirs[m.dir].path, entry.name));
    if (number != LinkGroups::kNoGroup) ++left_out_[number];
    return;
  }
  Pending below;
  below.dir.path = proto::join_path(plan_.dirs[m.dir].path, entry.name);
  if (!in_.everything && in_.old.listed(below.dir.path) == entry.content &&
      !forced_.contains(below.dir.path))
    return;
  below.dir.entry = entry;
  below.dir.entry.name = {};
  below.dir.id = entry.content;
  below.dir.parent = m.dir;
  below.dir.at = m.at;
  below.dir.left_out = true;
  below.differs = false;
  children_.push_back(std::move(below));
}

// The old entry's inode leaves this name, whatever comes after it.
void Planner::goes(const Meeting& m) {
  const bool stays = plan_.dirs[m.dir].stays();
  if (is_directory(m.old)) {
    Pending below;
    below.dir.path = proto::join_path(plan_.dirs[m.dir].path, m.old->name);
    below.dir.parent = m.dir;
    below.dir.at = m.now ? m.at : kNone;
    below.dir.was = m.was;
    below.dir.exists = true;
    below.stat = m.stat;
    children_.push_back(std::move(below));
  } else {
    if (m.old && m.old->type == EntryType::File) {
      const auto group =
          old_groups_.empty()
              ? LinkGroups::kNoGroup
              : old_groups_.of(proto::join_path(plan_.dirs[m.dir].path, m.old->name));
      let_go(m.dir, m.was, *m.old, group);
    }
    if (!m.now && stays) plan_.remove.push_back({m.dir, kNone, m.was, kNone});
  }
  if (stays) plan_.dirs[m.dir].names_change = true;
}

void Planner::meet_directory(const Meeting& m, Bytes path) {
  Pending below;
  below.dir.exists = is_directory(m.old);
  if (below.dir.exists) {
    below.differs = metadata_differs(*m.old, *m.now);
    below.enter = in_.everything || m.old->content != m.now->content || in_.old.uncertain(path) ||
                  forced_.contains(path);
    below.stat = m.stat;
    below.dir.unlock = !in_.privileged && below.enter && (m.stat.mode & S_IRWXU) != S_IRWXU;
    if (!below.differs && !below.enter) return;
  } else {
    if (m.old) goes(m);
    plan_.dirs[m.dir].names_change = true;
  }
  below.dir.path = std::move(path);
  below.dir.entry = *m.now;
  below.dir.entry.name = {};
  below.dir.id = m.now->content;
  below.dir.parent = m.dir;
  below.dir.at = m.at;
  below.dir.was = m.was;
  children_.push_back(std::move(below));
}

// True if the entry is the business of resolve_group() or resolve_single().
bool Planner::join_group(const Meeting& m, ByteView path) {
  const auto number = groups_.of(path);
  const auto old_group = old_groups_.of(path);
  const bool same = m.old && can_become(*m.old, *m.now);
  const bool metadata = same && metadata_differs(*m.old, *m.now);
  if (number != LinkGroups::kNoGroup) {
    Group& group = met_[number];
    if (group.members.empty())
      group.entry = *m.now;
    else if (!alike(group.entry, *m.now))
      fail(Reject::BadField);
    group.differs = group.differs || !same || metadata;
    group.members.push_back(
        {m.dir, m.at, m.was, m.now->name, same ? m.stat.ino : 0, old_group, metadata});
    if (m.old && !same) goes(m);
    return true;
  }
  const bool was_linked = old_group != LinkGroups::kNoGroup && old_groups_.changed(old_group);
  if (!same || !(was_linked || m.linked)) return false;
  singles_.push_back({m.dir, m.at, m.was, m.stat.ino, metadata, *m.now});
  return true;
}

void Planner::let_go(std::uint32_t dir, std::uint32_t was, const Entry& old,
                     std::uint32_t old_group) {
  if (old.type != EntryType::File || old.size == 0) return;
  // An inode of several names is free when the last one has let it go.
  if (old_group != LinkGroups::kNoGroup && ++old_gone_[old_group] < old_groups_.size(old_group))
    return;
  free_.push_back({key(old), dir, was});
}

bool Planner::can_become(const Entry& old, const Entry& now) const {
  return same_thing(old, now) && !(in_.shared && metadata_differs(old, now));
}

// Of a file that changes in nothing when it is taken, or in nothing but its metadata.
Hash Planner::key(const Entry& file) const {
  if (!in_.shared) return file.content;
  Bytes all;
  proto::Writer w(all);
  w.raw(file.content.view()).u32(file.mode).u32(file.uid).u32(file.gid);
  w.u64(static_cast<std::uint64_t>(file.mtime_s)).u32(file.mtime_ns);
  if (file.xattrs) w.raw(file.xattrs->view());
  return proto::sha256(all);
}

bool Planner::metadata_differs(const Entry& old, const Entry& now) const {
  return in_.everything || !in_.policy.same_metadata(old, now);
}

}  // namespace mirrorbus::tree
