#include "services/tree/checker.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/fs_clock.hpp"
#include "services/tree/pipeline.hpp"

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

constexpr std::size_t kDepth = 64;  // directories being looked at
const std::string kOtherMetadata = "has another owner, mode, time or extended attributes";

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
  RootDir roots[] = {p_.root.clone(), p_.root.clone()};
  Pipeline<Unit> pipeline(
      kDepth, [&](Unit& unit, unsigned worker) { examine(unit, roots[worker]); },
      [&](Unit& unit) { collect(unit, row); });
  for (std::uint32_t dir = 0; dir < p_.plan.dirs.size(); ++dir) {
    const Plan::Directory& each = p_.plan.dirs[dir];
    if (each.stays() && each.entered) pipeline.push(prepare(dir));
  }
  pipeline.finish();
  auto st = p_.ops.look(p_.root.fd(), {});
  if (!st || !check_metadata(p_.root.fd(), {}, p_.plan.dirs.front().entry, *st, root_flags_))
    mismatch({}, kOtherMetadata);
}

Checker::Unit Checker::prepare(std::uint32_t dir) {
  const Plan::Directory& each = p_.plan.dirs[dir];
  Unit unit;
  unit.dir = dir;
  unit.row = {each.path, each.id, p_.nodes.encoded(each.id), {}};
  if (each.exists) unit.old = p_.live.again(each.path);
  if (p_.live.differs(each.path) || each.left_out) {
    if (const auto row = p_.committed(each.path)) count_all(*row, left_out_before_);
  } else if (unit.old) {
    const OldDirectory& old = *unit.old;
    const auto place = p_.policy.place(each.path);
    for (std::size_t at = 0; at < old.node.entries.size(); ++at)
      p_.policy.count(place, old.node.entries[at], old.stats[at], left_out_before_);
  }
  return unit;
}

void Checker::examine(Unit& unit, RootDir& root) const {
  const Plan::Directory& each = p_.plan.dirs[unit.dir];
  auto touched = std::ranges::lower_bound(p_.plan.touched, std::pair(unit.dir, 0u));
  const auto is_touched = [&](std::uint32_t at) {
    return touched != p_.plan.touched.end() && *touched == std::pair(unit.dir, at);
  };
  std::optional<RootDir::Dir> fd;
  try {
    if (!each.left_out) fd = root.open(each.path);
  } catch (const std::system_error& error) {
    unit.mismatches.push_back({each.path, error.what()});
  }

  const auto place = p_.policy.place(each.path);
  proto::NodeReader reader(unit.row.node);
  Entry entry;
  std::size_t was = 0;
  const std::size_t was_size = unit.old ? unit.old->node.entries.size() : 0;
  for (std::uint32_t at = 0; reader.next(entry); ++at) {
    while (was < was_size && unit.old->node.entries[was].name < entry.name) ++was;
    const bool had = was < was_size && unit.old->node.entries[was].name == entry.name;
    const EntryStat* before = had ? &unit.old->stats[was] : nullptr;
    if (is_touched(at)) {
      ++touched;
      ++unit.files;
      unit.row.stats.push_back(fd ? check_entry(unit, at, fd->get(), entry, before)
                                  : EntryStat{});
    } else {
      const bool has = before && p_.policy.wanted(place, entry);
      unit.row.stats.push_back(has ? *before : EntryStat{});
    }
    p_.policy.count(place, entry, unit.row.stats.back(), unit.left_out);
  }
}

void Checker::collect(Unit& unit, const RowSink& row) {
  p_.control.check();
  for (Mismatch& each : unit.mismatches) mismatch(std::move(each.path), std::move(each.what));
  for (const auto& [member, ino] : unit.members) check_group(member, ino);
  for (const std::uint64_t ino : unit.linked) linked_.emplace(ino, 0);
  left_out_ += unit.left_out;
  row(p_.plan.dirs[unit.dir], std::move(unit.row));
  progress_.files += unit.files;
  p_.control.report(progress_);
}

void Checker::count_all(const DirectoryRow& row, Fidelity& into) const {
  const auto place = p_.policy.place(row.path);
  proto::NodeReader reader(row.node);
  Entry entry;
  for (std::size_t at = 0; reader.next(entry) && at < row.stats.size(); ++at)
    p_.policy.count(place, entry, row.stats[at], into);
}

EntryStat Checker::check_entry(Unit& unit, std::uint32_t at, int fd, const Entry& entry,
                               const EntryStat* was) const {
  const auto place = std::pair(unit.dir, at);
  if (std::ranges::binary_search(missing_, place)) return {};
  std::optional<struct stat> st;
  std::string wrong;
  std::uint32_t flags = 0;
  try {
    st = p_.ops.look(fd, entry.name);
    if (!st)
      wrong = "is not there";
    else if (std::ranges::binary_search(suspects_, place))
      wrong = "had been changed by somebody else";
    else
      wrong = wrong_with(fd, entry, *st, was);
    if (wrong.empty() && !check_metadata(fd, entry.name, entry, *st, flags, was))
      wrong = kOtherMetadata;
  } catch (const std::system_error& error) {
    wrong = error.what();
  }
  if (!wrong.empty()) {
    unit.mismatches.push_back({join_path(p_.plan.dirs[unit.dir].path, entry.name), wrong});
    return {};
  }
  note_links(unit, at, *st);
  EntryStat stat = EntryStat::of(*st);
  stat.flags |= flags;
  if (p_.shared && entry.type != EntryType::Directory) stat.flags |= EntryStat::kShared;
  return stat;
}

std::string Checker::wrong_with(int fd, const Entry& entry, struct stat& st,
                                const EntryStat* was) const {
  if (!same_type(st, entry.type)) return "is of another type";
  const bool late = !before(st.st_ctim, p_.ended);
  switch (entry.type) {
    case EntryType::File: {
      if (static_cast<std::uint64_t>(st.st_size) != entry.size) return "has another size";
      // The same inode, changed between our last look at it and our first change to the tree.
      const bool stale = was && was->ino == st.st_ino && before(ctime_of(*was), st.st_ctim) &&
                         before(st.st_ctim, p_.begun) &&
                         !(was->flags & EntryStat::kShared && was->same(EntryStat::of(st)));
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
// filesystem's or the user's limits counts as such. An inode that other versions have as well is
// left as it is.
bool Checker::check_metadata(int fd, const Bytes& name, const Entry& entry, struct stat& st,
                             std::uint32_t& flags, const EntryStat* was) const {
  using Match = MetadataPolicy::XattrMatch;
  Match xattrs = p_.policy.match_xattrs(fd, name, entry);
  if (xattrs == Match::Short) flags |= EntryStat::kXattrsShort;
  if (xattrs != Match::Differ && p_.policy.matches(st, entry)) return true;
  const bool keeps = p_.shared && was && was->ino == st.st_ino && !S_ISDIR(st.st_mode);
  if (keeps && !(was->flags & (EntryStat::kLimited | EntryStat::kXattrsShort))) return false;
  const bool all_set = keeps || p_.policy.bring(p_.ops, fd, name, st, entry);
  flags |= EntryStat::kUncertain;  // within the clock's present tick
  if (xattrs == Match::Differ) {
    xattrs = p_.policy.match_xattrs(fd, name, entry);
    if (xattrs == Match::Differ && all_set) return false;
    if (xattrs != Match::Equal) flags |= EntryStat::kXattrsShort;
  }
  const auto now = p_.ops.look(fd, name);
  if (!now) return false;
  st = *now;
  if (p_.policy.matches(st, entry)) return true;
  Entry possible = entry;
  possible.mtime_s = st.st_mtim.tv_sec;
  possible.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  possible.mode = p_.policy.mode(entry);
  if (::geteuid() != 0) possible.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID | S_ISVTX);
  struct stat masked = st;
  if (::geteuid() != 0) masked.st_mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID | S_ISVTX);
  if (!p_.policy.matches(masked, possible)) return false;
  flags |= EntryStat::kLimited;
  return true;
}

void Checker::note_links(Unit& unit, std::uint32_t at, const struct stat& st) const {
  if (S_ISDIR(st.st_mode)) return;
  const auto member =
      std::ranges::lower_bound(p_.plan.members, std::pair(unit.dir, at), {},
                               [](const Plan::Member& m) { return std::pair(m.dir, m.at); });
  if (member != p_.plan.members.end() && member->dir == unit.dir && member->at == at)
    unit.members.emplace_back(*member, st.st_ino);
  else if (st.st_nlink > 1)
    unit.linked.push_back(st.st_ino);
}

void Checker::check_group(const Plan::Member& member, std::uint64_t ino) {
  const auto of_group = group_ino_.try_emplace(member.group, ino).first;
  const auto of_ino = ino_group_.try_emplace(ino, member.group).first;
  const auto path = [&] {
    const Plan::Directory& dir = p_.plan.dirs[member.dir];
    return join_path(dir.path, p_.nodes.node(dir.id).entries[member.at].name);
  };
  if (of_group->second != ino)
    mismatch(path(), "is not the same file as the other names of its group");
  if (of_ino->second != member.group)
    mismatch(path(), "is the same file as the names of another group");
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
