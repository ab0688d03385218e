#include "services/tree/checker.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/fs_clock.hpp"

#include <algorithm>

#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;
using proto::join_path;
using proto::Node;

namespace {

timespec ctime_of(const EntryStat& stat) {
  return {static_cast<time_t>(stat.ctime_s), static_cast<long>(stat.ctime_ns)};
}

}  // namespace

Checker::Checker(const Parts& parts, std::vector<std::pair<std::uint32_t, std::uint32_t>> suspects)
    : p_(parts), suspects_(std::move(suspects)) {
  std::ranges::sort(suspects_);
  for (const auto* ops : {&p_.plan.place, &p_.plan.place_last})
    for (const Plan::Op& op : *ops)
      if (!p_.staged.ready(op.from)) missing_.emplace_back(op.dir, op.at);
  std::ranges::sort(missing_);
  progress_.phase = Phase::Checking;
  progress_.files_total = p_.plan.touched.size();
}

void Checker::mismatch(Bytes path, std::string what) {
  ++mismatch_count_;
  if (mismatches_.size() < kNamed) mismatches_.push_back({std::move(path), std::move(what)});
}

void Checker::run(const RowSink& row) {
  for (std::uint32_t dir = 0; dir < p_.plan.dirs.size(); ++dir) {
    const Plan::Directory& each = p_.plan.dirs[dir];
    if (!each.stays() || !each.entered) continue;
    p_.control.check();
    row(each, check(dir));
    p_.control.report(progress_);
  }
  auto st = p_.ops.look(p_.root.fd(), {});
  bool again = false;
  if (!st || !check_metadata(p_.root.fd(), {}, p_.plan.dirs.front().entry, *st, again))
    mismatch({}, "the root's owner, mode or time");
  if (st) root_stat_ = EntryStat::of(*st);
}

DirectoryRow Checker::check(std::uint32_t dir) {
  const Plan::Directory& each = p_.plan.dirs[dir];
  DirectoryRow row{each.path, each.id, p_.nodes.encoded(each.id), {}};
  std::optional<OldDirectory> old;
  if (each.exists) old = p_.live.again(each.path);
  if (p_.live.differs(each.path)) {
    if (const auto row = p_.committed(each.path)) count_all(row->node, left_out_before_);
  } else if (old) {
    for (const Entry& entry : old->node.entries) p_.policy.count(entry, left_out_before_);
  }
  std::optional<RootDir::Dir> fd;
  try {
    fd = p_.root.open(each.path);
  } catch (const std::system_error& error) {
    mismatch(each.path, error.what());
  }

  next_touched_ = static_cast<std::size_t>(
      std::ranges::lower_bound(p_.plan.touched, std::pair(dir, 0u)) - p_.plan.touched.begin());
  proto::NodeReader reader(row.node);
  Entry entry;
  std::size_t was = 0;
  const std::size_t was_size = old ? old->node.entries.size() : 0;
  for (std::uint32_t at = 0; reader.next(entry); ++at) {
    p_.policy.count(entry, left_out_);
    while (was < was_size && old->node.entries[was].name < entry.name) ++was;
    const bool had = was < was_size && old->node.entries[was].name == entry.name;
    const EntryStat* before = had ? &old->stats[was] : nullptr;
    const bool touched = next_touched_ < p_.plan.touched.size() &&
                         p_.plan.touched[next_touched_] == std::pair(dir, at);
    if (touched) {
      ++next_touched_;
      ++progress_.files;
      row.stats.push_back(fd ? check_entry(dir, at, fd->get(), entry, before) : EntryStat{});
    } else {
      row.stats.push_back(before && p_.policy.wanted(entry) ? *before : EntryStat{});
    }
  }
  return row;
}

void Checker::count_all(proto::ByteView node, Fidelity& into) const {
  proto::NodeReader reader(node);
  Entry entry;
  while (reader.next(entry)) p_.policy.count(entry, into);
}

EntryStat Checker::check_entry(std::uint32_t dir, std::uint32_t at, int fd, const Entry& entry,
                               const EntryStat* was) {
  const auto place = std::pair(dir, at);
  if (std::ranges::binary_search(missing_, place)) return {};
  const Bytes& in = p_.plan.dirs[dir].path;
  std::optional<struct stat> st;
  std::string wrong;
  bool again = false;
  try {
    st = p_.ops.look(fd, entry.name);
    if (!st)
      wrong = "is not there";
    else if (std::ranges::binary_search(suspects_, place))
      wrong = "had been changed by somebody else";
    else
      wrong = wrong_with(fd, entry, *st, was);
    if (wrong.empty() && !check_metadata(fd, entry.name, entry, *st, again))
      wrong = "has another owner, mode or time";
    if (wrong.empty()) check_group(dir, at, *st, wrong);
  } catch (const std::system_error& error) {
    wrong = error.what();
  }
  if (!wrong.empty()) {
    mismatch(join_path(in, entry.name), wrong);
    return {};
  }
  EntryStat stat = EntryStat::of(*st);
  if (again) stat.flags |= EntryStat::kUncertain;  // within the clock's present tick
  return stat;
}

std::string Checker::wrong_with(int fd, const Entry& entry, struct stat& st, const EntryStat* was) {
  if (!same_type(st, entry.type)) return "is of another type";
  const bool late = !before(st.st_ctim, p_.ended);
  switch (entry.type) {
    case EntryType::File: {
      if (static_cast<std::uint64_t>(st.st_size) != entry.size) return "has another size";
      // The same inode, changed between our last look at it and our first change to the tree.
      const bool stale = was && was->ino == st.st_ino && before(ctime_of(*was), st.st_ctim) &&
                         before(st.st_ctim, p_.begun);
      if (late || stale) {
        const auto read = read_file(fd, entry.name);
        if (!read || read->content != entry.content) return "has another content";
        st = read->st;
      }
      return {};
    }
    case EntryType::Symlink:
      return p_.ops.read_link(fd, entry.name) == entry.target ? "" : "leads elsewhere";
    case EntryType::CharDevice:
    case EntryType::BlockDevice:
      return st.st_rdev == ::makedev(entry.major, entry.minor) ? "" : "is another device";
    case EntryType::Directory: return late ? "was changed meanwhile" : "";
    case EntryType::Fifo:
    case EntryType::Socket: return {};
  }
  return "is of no type";
}

// False if it is not right and cannot be made right; what cannot be made right because of the
// filesystem's or the user's limits counts as such.
bool Checker::check_metadata(int fd, const Bytes& name, const Entry& entry, struct stat& st,
                             bool& again) {
  if (p_.policy.matches(st, entry)) return true;
  p_.policy.bring(p_.ops, fd, name, st, entry);
  again = true;
  const auto now = p_.ops.look(fd, name);
  if (!now) return false;
  st = *now;
  if (p_.policy.matches(st, entry)) return true;
  Entry possible = entry;
  possible.mtime_s = st.st_mtim.tv_sec;
  possible.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  if (::geteuid() != 0) possible.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID | S_ISVTX);
  struct stat masked = st;
  if (::geteuid() != 0) masked.st_mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID | S_ISVTX);
  if (!p_.policy.matches(masked, possible)) return false;
  ++limits_;
  return true;
}

void Checker::check_group(std::uint32_t dir, std::uint32_t at, const struct stat& st,
                          std::string& wrong) {
  const auto& members = p_.plan.members;
  const auto member =
      std::ranges::lower_bound(members, std::pair(dir, at), {},
                               [](const Plan::Member& m) { return std::pair(m.dir, m.at); });
  if (member == members.end() || member->dir != dir || member->at != at) {
    if (st.st_nlink > 1 && !S_ISDIR(st.st_mode)) linked_.emplace(st.st_ino, 0);
    return;
  }
  const auto [ino, first] = group_ino_.try_emplace(member->group, st.st_ino);
  const auto [group, alone] = ino_group_.try_emplace(st.st_ino, member->group);
  if (ino->second != st.st_ino) wrong = "is not the same file as the other names of its group";
  if (group->second != member->group) wrong = "is the same file as the names of another group";
}

void Checker::check_links(const EachStats& rows) {
  std::erase_if(linked_, [this](const auto& each) {
    if (!ino_group_.contains(each.first)) return false;
    mismatch({}, "a file shares its inode with a link group it is not in");
    return true;
  });
  // Most often the other names are outside the tree (somebody's snapshot).
  if (linked_.empty()) return;
  rows([this](proto::ByteView path, const std::vector<EntryStat>& stats) {
    for (const EntryStat& stat : stats) {
      if (stat.ino == 0 || S_ISDIR(stat.mode)) continue;
      const auto found = linked_.find(stat.ino);
      if (found != linked_.end() && ++found->second > 1)
        mismatch(Bytes(path), "holds a file that is the same as another, and should not be");
    }
  });
}

}  // namespace mirrorbus::tree
