// Extended attributes, as a scan takes them.
//
// They are read after the lstat that stands for them: what changes later moves the ctime. Only a
// change within the same tick of the filesystem's clock would not; so what has that tick is read
// once more at the next look.
#include "services/tree/fs_clock.hpp"
#include "services/tree/index_xattrs.hpp"
#include "services/tree/scan_run.hpp"

namespace mirrorbus::tree {

using proto::Entry;

// The attributes of entry `at`. `tick`: of the filesystem's clock, some time before now.
// `bare`: it was seen to have none after its stat was taken.
void Scanner::Run::take_xattrs(Work& work, std::size_t at, const timespec& tick, bool bare) {
  Entry& entry = work.entries[at];
  EntryStat& stat = work.stats[at];
  stat.flags &= ~EntryStat::kXattrsAgain;
  if (bare) {
    entry.xattrs.reset();
  } else if (!read_xattrs_of(work.dir.get(), entry.name, work.path, entry)) {
    // As they were before, if anything was.
    const auto was = work.old ? proto::decode_node(work.old->node) : proto::Node();
    const Entry* old = was ? was->find(entry.name) : nullptr;
    entry.xattrs = old && old->type == entry.type ? old->xattrs : std::nullopt;
    stat.flags |= EntryStat::kXattrsAgain;
  }
  const timespec changed{static_cast<time_t>(stat.ctime_s), static_cast<long>(stat.ctime_ns)};
  if (xattrs_ && !before(changed, tick)) stat.flags |= EntryStat::kXattrsAgain;
}

// False if they cannot be read; `entry` then is as it was. `path`: of the directory.
bool Scanner::Run::read_xattrs_of(int dir, const Bytes& name, const Bytes& path, Entry& entry) {
  const auto set = read_xattrs(dir, name, s_.settings_.xattrs);
  if (!set) {
    const bool gone = set.error() == ENOENT;
    problem(gone ? ScanProblem::Kind::Vanished : ScanProblem::Kind::Unreadable,
            name.empty() ? path : proto::join_path(path, name), set.error());
    if (gone)
      look_again(path);
    else
      ++report_.kept;
    return false;
  }
  entry.xattrs.reset();
  if (set->empty()) return true;
  const Bytes bytes = proto::encode_xattr_set(*set);
  entry.xattrs = proto::xattr_set_id(bytes);
  if (kept_xattrs_.insert(*entry.xattrs).second) index_.xattr_sets().keep(*entry.xattrs, bytes);
  return true;
}

}  // namespace mirrorbus::tree
