#include "services/tree/late_links.hpp"

#include "services/tree/file_reader.hpp"

#include <optional>
#include <system_error>
#include <utility>

#include <sys/stat.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

constexpr std::string_view kSetting = "late links";

}  // namespace

LateLinks::LateLinks(Index& index, ContentStore& store, std::string root_path)
    : index_(index), store_(store), root_path_(std::move(root_path)) {
  const auto noted = index_.setting(kSetting);
  somewhere_ = noted && !noted->empty();
}

void LateLinks::add(const Bytes& directory) {
  if (directories_.empty() && !somewhere_) index_.set_setting(kSetting, "missing");
  if (directories_.empty() || directories_.back() != directory) directories_.push_back(directory);
}

bool LateLinks::some(std::size_t limit) {
  if (directories_.empty() && !somewhere_) return false;
  auto root = open_root();
  if (!root) return false;  // the tree is away: tried again after the next version
  if (std::exchange(somewhere_, false)) list_all();
  Index::Batch batch(index_);
  for (std::size_t taken = 0; taken < limit && !directories_.empty();) {
    // A directory costs something, too.
    taken += 1 + look_into(*root, directories_.back());
    directories_.pop_back();
  }
  if (directories_.empty()) index_.set_setting(kSetting, "");
  batch.commit();
  return !directories_.empty();
}

void LateLinks::list_all() {
  directories_.clear();
  index_.each_directory({}, [this](const DirectoryRow& row) {
    directories_.push_back(row.path);
    return true;
  });
}

// The directory that was scanned, not what an unmounted filesystem leaves in its place.
std::optional<RootDir> LateLinks::open_root() const {
  const auto known = index_.latest_root();
  try {
    RootDir root(root_path_);
    struct stat st;
    if (!known || ::fstat(root.fd(), &st) != 0 || st.st_dev != known->stat.dev ||
        st.st_ino != known->stat.ino)
      return std::nullopt;
    return root;
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

// Returns how many links were taken. What does not look as it did is left to the next scan.
std::size_t LateLinks::look_into(RootDir& root, const Bytes& path) {
  auto row = index_.latest(path);
  if (!row) return 0;
  std::optional<RootDir::Dir> dir;
  try {
    dir.emplace(root.open(path));
  } catch (const std::system_error&) {
    return 0;
  }
  constexpr std::uint32_t kNotNow =
      EntryStat::kHeld | EntryStat::kUncertain | EntryStat::kUnreadable;
  std::size_t taken = 0;
  proto::NodeReader reader(row->node);
  Entry entry;
  for (std::size_t at = 0; reader.next(entry) && at < row->stats.size(); ++at) {
    EntryStat& known = row->stats[at];
    if (entry.type != EntryType::File || (known.flags & kNotNow) != 0) continue;
    const auto file = open_file(dir->get(), entry.name);
    if (!file || file->st.st_nlink != 1 || !EntryStat::of(file->st).same(known)) continue;
    const HoldResult held = store_.hold_hashed(file->fd.get(), file->st, entry.content);
    if (held.state != HoldResult::State::Held || !held.linked) continue;
    EntryStat now = EntryStat::of(held.st);
    now.flags = known.flags | EntryStat::kHeld;
    // Our link has moved the ctime, and so hides whether an attribute was set in the same moment.
    if (!held.bare || entry.xattrs) now.flags |= EntryStat::kXattrsAgain;
    if (now.mode != known.mode || now.uid != known.uid || now.gid != known.gid)
      now.flags |= EntryStat::kUncertain;
    known = now;
    ++taken;
  }
  if (taken > 0) index_.put_stats(path, row->stats);
  return taken;
}

}  // namespace mirrorbus::tree
