#include "services/tree/applier.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/pipeline.hpp"

#include <algorithm>
#include <ranges>

#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;
using proto::join_path;
using proto::last_name;
using proto::Node;
using proto::parent_path;

namespace {
constexpr std::size_t kDepth = 64;  // directories being worked on
}  // namespace

Applier::Applier(const Parts& parts) : p_(parts), ops_(parts.staging.ops()) {
  for (const Plan::NewInode& inode : p_.plan.inodes) uses_.push_back(inode.uses);
  kept_seen_.resize(p_.plan.kept.size());
  const Plan& plan = p_.plan;
  progress_.phase = Phase::Applying;
  progress_.files_total = plan.make.size() + plan.place.size() + plan.link.size() +
                          plan.change.size() + plan.place_last.size() + plan.link_last.size() +
                          plan.change_last.size() + plan.remove.size() + plan.remove_dirs.size() +
                          plan.finish.size();
}

void Applier::count() {
  if (++progress_.files % 256 != 0) return;
  p_.control.check();
  p_.control.report(progress_);
}

const Node& Applier::target_node(std::uint32_t dir) {
  if (!target_ || target_->first != dir) target_.emplace(dir, p_.nodes.node(directory(dir).id));
  return target_->second;
}

const OldDirectory& Applier::old_directory(std::uint32_t dir) {
  if (!old_ || old_->first != dir) {
    auto old = p_.live.again(directory(dir).path);
    old_.emplace(dir, old ? std::move(*old) : OldDirectory{});
  }
  return old_->second;
}

void Applier::run() {
  if (!directories_made_) make_directories();
  place(p_.plan.place);
  link(p_.plan.link);
  change(p_.plan.change);
  place(p_.plan.place_last);
  link(p_.plan.link_last);
  change(p_.plan.change_last);
  remove();
  finish_directories();
}

void Applier::make_directories() {
  directories_made_ = true;
  for (std::uint32_t dir = 0; dir < p_.plan.dirs.size(); ++dir) {
    const Plan::Directory& each = directory(dir);
    if (each.unlock) p_.errors.guard(each.path, [&] { unlock(dir); });
    if (each.stays() && !each.exists && !each.left_out) {
      p_.errors.guard(each.path, [&] { make_directory(dir); });
      count();
    }
  }
}

// A plain user's own directory without the right to write, search or read: for the time being.
void Applier::unlock(std::uint32_t dir) {
  const Bytes& path = directory(dir).path;
  if (path.empty())
    ops_.set_mode(p_.root.fd(), {}, S_IRWXU);
  else
    ops_.set_mode(p_.root.open(parent_path(path)).get(), Bytes(last_name(path)), S_IRWXU);
  p_.root.forget(path);
}

void Applier::make_directory(std::uint32_t dir) {
  const Bytes& path = directory(dir).path;
  if (path.empty()) return;  // the root: whoever opened it made it
  const RootDir::Dir parent = p_.root.open(parent_path(path));
  const Bytes name(last_name(path));
  if (ops_.make_new_directory(parent.get(), name, S_IRWXU)) return;
  const auto there = ops_.look(parent.get(), name);
  if (there && S_ISDIR(there->st_mode)) return;
  // In the place of something else: never a moment without either.
  const Bytes staged = Staging::trash_name(p_.staging.next_number());
  ops_.make_directory(p_.staging.dir(), staged, S_IRWXU);
  trash_.push_back(staged);
  ops_.exchange(p_.staging.dir(), staged, parent.get(), name);
}

void Applier::dress_link(const Bytes& staged, const Entry& entry) {
  const auto st = ops_.look(p_.staging.dir(), staged);
  if (st) p_.policy.bring(ops_, p_.staging.dir(), staged, *st, entry);
}

void Applier::place(const std::vector<Plan::Op>& ops) {
  for (const Plan::Op& op : ops) {
    count();
    if (!p_.staged.ready(op.from) || p_.staged.is_placed(op.from)) continue;
    const Entry& entry = target_node(op.dir).entries[op.at];
    const Bytes& dir_path = directory(op.dir).path;
    const Bytes path = join_path(dir_path, entry.name);
    p_.errors.guard(path, [&] {
      const Bytes staged = p_.staged.name(p_.plan, op.from);
      const bool first = uses_[op.from] == p_.plan.inodes[op.from].uses;
      const bool is_link = p_.staged.is_link(op.from);
      if (first && is_link) dress_link(staged, entry);
      const RootDir::Dir dir = p_.root.open(dir_path);
      const bool last = --uses_[op.from] == 0;
      const Use use = !last ? Use::NotLast : first && !is_link ? Use::Only : Use::Last;
      put(staged, use, dir, entry.name, path);
    });
  }
}

void Applier::put(const Bytes& staged, Use use, const RootDir::Dir& dir, const Bytes& name,
                  const Bytes& path) {
  const int staging = p_.staging.dir();
  Bytes from = staged;
  if (use == Use::NotLast) {
    from = Staging::other_name(p_.staging.next_number());
    ops_.link(staging, staged, staging, from);
  }
  try {
    if (use == Use::Only)
      ops_.move(staging, from, dir.get(), name);
    else
      ops_.replace(staging, from, dir.get(), name);
  } catch (const std::system_error& error) {
    if (error.code().value() != EISDIR) throw;
    // A directory is in the way: what it held was linked or copied before, or goes with it. To give
    // it another parent, its owner must be able to write to it.
    if (::geteuid() != 0) ops_.set_mode(dir.get(), name, S_IRWXU);
    ops_.exchange(staging, from, dir.get(), name);
    const Bytes trash = Staging::trash_name(p_.staging.next_number());
    ops_.move_new(staging, from, staging, trash);
    trash_.push_back(trash);
    p_.root.forget(path);
  }
}

// Further names of an inode that stays.
void Applier::link(const std::vector<Plan::Op>& ops) {
  for (const Plan::Op& op : ops) {
    count();
    const Plan::Kept& kept = p_.plan.kept[op.from];
    const Entry kept_entry = target_node(kept.dir).entries[kept.at];
    const EntryStat was = old_directory(kept.dir).stats.at(kept.was);
    const Bytes name = target_node(op.dir).entries[op.at].name;
    const Bytes path = join_path(directory(op.dir).path, name);
    p_.errors.guard(path, [&] {
      const RootDir::Dir from = p_.root.open(directory(kept.dir).path);
      if (!kept_seen_[op.from]) {
        const auto st = ops_.look(from.get(), kept_entry.name);
        if (!st || !as_it_was(*st, was, from.get(), kept_entry)) {
          suspects_.emplace_back(kept.dir, kept.at);
          suspects_.emplace_back(op.dir, op.at);
          return;
        }
        kept_seen_[op.from] = true;
      }
      const Bytes staged = Staging::other_name(p_.staging.next_number());
      ops_.link(from.get(), kept_entry.name, p_.staging.dir(), staged);
      put(staged, Use::Last, p_.root.open(directory(op.dir).path), name, path);
    });
  }
}

// A directory at a time, two of them at once: this is most of the work when all times change.
void Applier::change(const std::vector<Plan::Op>& ops) {
  RootDir roots[] = {p_.root.clone(), p_.root.clone()};
  Pipeline<ChangeUnit> pipeline(
      kDepth, [&](ChangeUnit& unit, unsigned worker) { change(unit, roots[worker]); },
      [this](ChangeUnit& unit) {
        for (auto& [path, why] : unit.errors) p_.errors.add(std::move(path), std::move(why));
        for (auto& [path, kind] : unit.edits) p_.edits.add(std::move(path), kind);
        suspects_.insert(suspects_.end(), unit.suspects.begin(), unit.suspects.end());
        for (std::size_t i = 0; i < unit.ops.size(); ++i) count();
      });
  for (auto first = ops.begin(); first != ops.end();) {
    const auto next = std::ranges::find_if(
        first, ops.end(), [first](const Plan::Op& op) { return op.dir != first->dir; });
    auto old = p_.live.again(directory(first->dir).path);
    pipeline.push({std::span(first, next), p_.nodes.node(directory(first->dir).id),
                   old ? std::move(*old) : OldDirectory{}, {}, {}, {}});
    first = next;
  }
  pipeline.finish();
}

// Only what still is what the index knows: else the new times would hide somebody's edit.
void Applier::change(ChangeUnit& unit, RootDir& root) const {
  const Bytes& in = directory(unit.ops.front().dir).path;
  std::optional<RootDir::Dir> dir;
  for (const Plan::Op& op : unit.ops) {
    const Entry& entry = unit.node.entries[op.at];
    try {
      if (!dir) dir = root.open(in);
      const auto st = ops_.look(dir->get(), entry.name);
      if (st && as_it_was(*st, unit.old.stats.at(op.was), dir->get(), entry)) {
        // The usual change is of times: then a look at attributes would be most of the work.
        const EntryStat& was = unit.old.stats.at(op.was);
        const bool known = EntryStat::of(*st).same_but_device(was) &&
                           unit.old.node.entries.at(op.was).xattrs == entry.xattrs;
        p_.policy.bring(ops_, dir->get(), entry.name, *st, entry,
                        known ? MetadataPolicy::Xattrs::Known : MetadataPolicy::Xattrs::Unknown);
      } else {
        unit.edits.emplace_back(join_path(in, entry.name), st ? LocalEdit::Kind::Changed
                                                              : LocalEdit::Kind::Removed);
        unit.suspects.emplace_back(op.dir, op.at);
      }
    } catch (const std::system_error& error) {
      if (ItemErrors::concerns_all(error)) throw;
      unit.errors.emplace_back(join_path(in, entry.name), error.what());
    }
  }
}

bool Applier::as_it_was(const struct stat& st, const EntryStat& was, int dir, const Entry& entry) {
  if (EntryStat::of(st).same_but_device(was)) return true;
  if (st.st_ino != was.ino || !same_type(st, entry.type)) return false;
  if (entry.type != EntryType::File) return true;
  // A link made or removed moves the ctime, and it may have been ours: the content tells.
  const auto read = read_file(dir, entry.name);
  return read && read->content == entry.content;
}

void Applier::remove() {
  for (const Plan::Op& op : p_.plan.remove) {
    count();
    const OldDirectory& old = old_directory(op.dir);
    const Bytes& name = old.node.entries.at(op.was).name;
    const Bytes path = join_path(directory(op.dir).path, name);
    p_.errors.guard(path, [&] {
      const RootDir::Dir dir = p_.root.open(directory(op.dir).path);
      const auto st = ops_.look(dir.get(), name);
      if (!st) return;
      // An inode with another name may be one that we took and dressed; and one that had another
      // name has had its ctime moved.
      const EntryStat& was = old.stats[op.was];
      const EntryStat now = EntryStat::of(*st);
      if (OldDirectory::known(was) && st->st_nlink == 1 &&
          (now.ino != was.ino || now.size != was.size || now.mtime_s != was.mtime_s ||
           now.mtime_ns != was.mtime_ns))
        p_.edits.add(path, LocalEdit::Kind::Changed);
      ops_.remove_all(dir.get(), name);
    });
  }
  for (const std::uint32_t number : p_.plan.remove_dirs) {
    const Bytes& path = directory(number).path;
    count();
    p_.errors.guard(path, [&] {
      ops_.remove_all(p_.root.open(parent_path(path)).get(), Bytes(last_name(path)));
      p_.root.forget(path);
    });
  }
  for (const Bytes& name : trash_) ops_.remove_all(p_.staging.dir(), name);
}

void Applier::finish_directories() {
  for (const std::uint32_t number : std::views::reverse(p_.plan.finish)) {
    const Plan::Directory& each = directory(number);
    count();
    p_.errors.guard(each.path, [&] {
      const bool is_root = each.path.empty();
      const RootDir::Dir dir = p_.root.open(parent_path(each.path));
      const Bytes name(last_name(each.path));
      const auto st = ops_.look(dir.get(), is_root ? Bytes() : name);
      if (st && S_ISDIR(st->st_mode)) p_.policy.bring(ops_, dir.get(), name, *st, each.entry);
    });
  }
}

}  // namespace mirrorbus::tree
