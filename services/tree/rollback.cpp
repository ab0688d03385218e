#include "services/tree/rollback.hpp"

#include "services/tree/in_flight.hpp"
#include "services/tree/mirror_state.hpp"
#include "services/tree/store_source.hpp"
#include "services/tree/sync_run.hpp"
#include "services/tree/tree_view.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <unordered_map>
#include <unordered_set>

#include <dirent.h>
#include <fcntl.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

constexpr std::string_view kRollback = "rollback";  // the number; empty: none

struct Needed {
  Bytes path;  // one that has it
  std::uint64_t size;
};

}  // namespace

std::uint64_t Rollback::unfinished(const Index& index) {
  const auto text = index.setting(kRollback);
  return text && !text->empty() ? std::stoull(*text) : 0;
}

void Rollback::give_up(Index& index) {
  Index::Batch batch(index);
  index.set_setting(kRollback, {});
  MirrorState(index).end_applying();
  batch.commit();
}

void Rollback::to(std::uint64_t number, const WorkControl& control) {
  const auto newest = index_.newest();
  const auto version = index_.version(number);
  if (!version || !newest) {
    const auto held = index_.version_numbers();
    throw std::runtime_error(fmt::format(
        "version {} is not held any more{}", number,
        held.empty() ? "" : fmt::format("; there are {} to {}", held.front(), held.back())));
  }
  if (!work_.same_mount())
    throw std::runtime_error("a rollback needs the work folder on the tree's mount; " +
                             work_.path() + " is on another one");
  if (unfinished(index_) == 0) {
    check_contents(*version, control);
    check_directories(*version);
    const base::Fd root(::open(tree_path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) base::throw_errno("opening the tree " + tree_path_);
    Index::Batch batch(index_);
    MirrorState(index_).set_root(RootIdentity::of(root.get()));
    index_.set_setting(kRollback, std::to_string(number));
    batch.commit();
  }

  MirrorSettings settings;
  settings.path = tree_path_;
  settings.work = work_.subfolder("rollback");
  settings.max_delete.files = UINT64_MAX;
  settings.adopt = true;
  settings.leave_index = true;
  settings.metadata.xattrs = scan_.xattrs;  // what was not looked at is not ours to take away
  settings.ignored = [this](ByteView path) {
    return scan_.filter.excludes(path) || looks_temporary(proto::last_name(path));
  };
  std::vector<TargetVersion> versions(1);
  proto::VersionRecord& record = versions.front().update.record;
  record = version->record;
  record.number = newest->record.number + 1;
  StoreSource source(store_);
  const SyncResult result =
      SyncRun(settings, index_, versions, source, control).bring_to({}, false);
  using State = SyncResult::State;
  if (result.state != State::Committed && result.state != State::Unchanged) {
    const auto& items = result.missing.empty() ? result.mismatches : result.missing;
    throw std::runtime_error(fmt::format(
        "the tree could not be made version {} again: {}", number,
        result.refusal  ? result.refusal->text
        : items.empty() ? "the check failed"
                        : fmt::format("{} ({}), one of {} or more", items.front().path,
                                      items.front().reason, items.size())));
  }
  give_up(index_);
}

// What the version has and the tree has not must be in the store, and good: known before
// anything is touched.
void Rollback::check_contents(const StoredVersion& version, const WorkControl& control) {
  std::unordered_map<Hash, Needed> needed;
  std::vector<std::pair<Bytes, Hash>> rest{{{}, version.root.entry.content}};
  std::unordered_set<Hash> met;
  while (!rest.empty()) {
    const auto [path, id] = std::move(rest.back());
    rest.pop_back();
    if (!met.insert(id).second || !index_.paths_of_node(id).empty()) continue;  // is there
    const auto node = index_.blob(id);
    if (!node) throw std::runtime_error("the index has lost a node of the version");
    proto::NodeReader reader(*node);
    Entry entry;
    while (reader.next(entry)) {
      Bytes full = proto::join_path(path, entry.name);
      if (entry.type == EntryType::Directory)
        rest.emplace_back(std::move(full), entry.content);
      else if (entry.type == EntryType::File && entry.size > 0)
        needed.try_emplace(entry.content, Needed{std::move(full), entry.size});
    }
  }
  if (needed.empty()) return;
  index_.each_directory({}, [&](const DirectoryRow& row) {
    proto::NodeReader reader(row.node);
    Entry entry;
    while (reader.next(entry))
      if (entry.type == EntryType::File) needed.erase(entry.content);
    control.check();
    return !needed.empty();
  });
  StoreSource source(store_);
  std::uint64_t lost = 0;
  Bytes first;
  for (const auto& [hash, file] : needed) {
    control.check();
    if (source.holds({hash, file.size})) continue;
    if (lost++ == 0 || file.path < first) first = file.path;
  }
  if (lost > 0)
    throw std::runtime_error(
        fmt::format("version {} cannot be brought back: the contents of {} of its files are no "
                    "longer held, of {} for one",
                    version.record.number, lost, first));
}

// A directory goes with all that is in it; but not with what the tree does not even know.
void Rollback::check_directories(const StoredVersion& version) const {
  const TreeView target([this](const Hash& id) { return index_.blob(id); }, version.root, {}, {});
  RootDir root(tree_path_);
  index_.each_directory({}, [&](const DirectoryRow& row) {
    if (target.directory(row.path)) return true;
    const auto dir = root.open(row.path);
    const base::Fd again(::openat(dir.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!again) return true;  // closed to us: the apply will say so
    EntryOps ops(nullptr);
    for (const Bytes& name : ops.list(again.get()))
      if (!find_entry(row.node, name))
        throw std::runtime_error(fmt::format(
            "{}/{} is not part of the tree and its directory would go: move it away first",
            row.path, name));
    return true;
  });
}

}  // namespace mirrorbus::tree
