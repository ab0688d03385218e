#include "services/tree/origin_tree.hpp"

#include "proto/tree_update.hpp"
#include "services/tree/changes.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/fs_clock.hpp"
#include "services/tree/garbage.hpp"
#include "services/tree/hard_links.hpp"
#include "services/tree/owner_names.hpp"
#include "services/tree/rollback.hpp"
#include "services/tree/root_dir.hpp"
#include "services/tree/spool.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <unordered_set>

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using State = OriginTree::Closing::State;

namespace {

constexpr std::string_view kTreeIdSetting = "tree id";
constexpr std::string_view kParentSetting = "parent record";
constexpr std::string_view kStoreSetting = "store";
constexpr base::Duration kTimesOnly = std::chrono::minutes(1);
constexpr std::size_t kLinkStep = 2000;
constexpr std::size_t kSweepStep = 200;

// Contents by the first eight bytes of their hash: a set of millions in memory. Two with the same
// eight keep each other's garbage, no more.
std::uint64_t short_hash(const Hash& hash) {
  std::uint64_t value;
  std::memcpy(&value, hash.octets.data(), sizeof value);
  return value;
}

}  // namespace

OriginTree::OriginTree(OriginSettings settings)
    : settings_(std::move(settings)),
      work_(settings_.path, settings_.name, settings_.work, WorkFolder::Mount::Any),
      index_file_(settings_.index_file.empty() ? work_.path() + "/index" : settings_.index_file),
      packs_(work_.subfolder("packs")),
      index_(index_file_, {.durable = settings_.durable}),
      store_(work_.subfolder("objects"), settings_.path, settings_.store),
      late_links_(index_, store_, settings_.path),
      scanner_(index_, store_, settings_.path, work_.fd(), settings_.scan, &late_links_),
      disk_time_(index_, settings_.boot) {}

OriginTree::~OriginTree() = default;

std::string OriginTree::pack_path(const Hash& pack) const {
  return packs_ + "/" + proto::to_hex(pack);
}

void OriginTree::take_report(const ScanReport& report) {
  root_ = report.root;
  hashed_ |= report.files_hashed > 0;
  if (root_ != ScanReport::Root::Present) return;
  scanned_ = true;
  kept_ = report.kept;
  troubled_.clear();
  for (const ScanProblem& p : report.problems)
    if (p.kind != ScanProblem::Kind::BadName)
      troubled_.insert(Bytes(proto::parent_path(p.path)));
  too_many_troubles_ = report.problem_count > report.problems.size();
}

ScanReport OriginTree::scan_all(bool careful, const WorkControl& control) {
  // A store that is new or of another kind holds nothing yet.
  const std::string kind(to_string(store_.kind()));
  const bool other_store = index_.setting(kStoreSetting) != kind;
  scanner_.doubt(disk_time_.doubtful_since());
  ScanReport report = scanner_.all(careful || other_store, control);
  if (report.root == ScanReport::Root::Present) {
    if (other_store) index_.set_setting(kStoreSetting, kind);
    disk_time_.looked_at_all();
  }
  take_report(report);
  return report;
}

ScanReport OriginTree::scan_some(const std::vector<Bytes>& directories,
                                 const std::vector<Bytes>& trees, const WorkControl& control) {
  if (!scanned_ || too_many_troubles_) return scan_all(false, control);
  std::vector<Bytes> all = directories;
  all.insert(all.end(), troubled_.begin(), troubled_.end());
  ScanReport report = scanner_.some(all, trees, control);
  take_report(report);
  return report;
}

proto::TreeId OriginTree::tree_id() {
  if (const auto id = index_.setting(kTreeIdSetting)) return proto::TreeId::from_bytes(*id);
  proto::TreeId id;
  if (::getrandom(id.octets.data(), id.octets.size(), 0) != static_cast<ssize_t>(id.octets.size()))
    base::throw_errno("drawing a tree id");
  index_.set_setting(kTreeIdSetting, id.view());
  return id;
}

// A file as it is in the tree now, for what the store does not hold. Whoever asks hashes it.
base::Fd OriginTree::open_live(const FileRef& file) const try {
  RootDir root(settings_.path);
  const auto dir = root.open(proto::parent_path(file.path));
  auto open = open_file(dir.get(), Bytes(proto::last_name(file.path)));
  if (!open || static_cast<std::uint64_t>(open->st.st_size) != file.size) return {};
  return std::move(open->fd);
} catch (const std::system_error&) {
  return {};
}

std::optional<Bytes> OriginTree::read_live(const FileRef& file) const try {
  const base::Fd fd = open_live(file);
  if (!fd) return std::nullopt;
  return read_exactly_at(fd.get(), file.size, 0, file.path);
} catch (const std::exception&) {
  // It changed since it was scanned; the pack does without.
  return std::nullopt;
}

std::optional<proto::VersionRecord> OriginTree::version_elsewhere(
    const std::optional<StoredVersion>& newest) const {
  const auto bytes = index_.setting(kParentSetting);
  if (!bytes) return std::nullopt;
  auto record = proto::decode_version(*bytes);
  if (!record) throw std::runtime_error("the index holds a damaged version");
  if (newest && newest->record.number > record->number) return std::nullopt;
  return std::move(*record);
}

OriginTree::Closing OriginTree::close_version(base::WallTime now, bool asked,
                                              const WorkControl& control) {
  Index::Batch batch(index_);
  Closing closing = close_in_batch(now, asked, control);
  batch.commit();
  return closing;
}

OriginTree::Closing OriginTree::close_in_batch(base::WallTime now, bool asked,
                                               const WorkControl& control) {
  Closing closing;
  if (!scanned_) {
    closing.state = root_ == ScanReport::Root::Present ? State::Unready : State::NoRoot;
    return closing;
  }
  if (root_ != ScanReport::Root::Present) {
    closing.state = State::NoRoot;
    return closing;
  }
  const auto before = index_.newest();
  const auto after = version_elsewhere(before);
  const Bytes links = proto::encode_links(index_.hard_links().table());
  if (before && !after && !index_.has_pending() &&
      before->root.links == proto::sha256(links)) {
    closing.version = before;
    return closing;
  }
  const auto sealed = index_.seal_pending();
  if (!sealed)
    throw std::runtime_error("the index of tree " + settings_.name +
                             " does not fit together: remove " + index_file_ + " to scan anew");

  const Index::Totals totals = index_.latest_totals();
  const Bytes owners = proto::encode_owners(owner_names(totals.users, totals.groups));
  StoredVersion version;
  version.root = {sealed->entry, proto::sha256(links), proto::sha256(owners)};
  version.record.tree_hash = proto::tree_hash(version.root);
  if (before && !after && before->record.tree_hash == version.record.tree_hash) {
    closing.version = before;
    return closing;
  }
  if (kept_ > 0 && settings_.hold_on_unreadable) {
    closing.state = State::Held;
    return closing;
  }

  // The tree as it was is the committed layer, as it is the pending one over it.
  proto::TreeUpdate update;
  const auto at = [](std::optional<DirectoryRow> row, const Bytes& path) {
    if (!row) throw std::runtime_error("the index lost directory '" + path + "'");
    return std::move(row->node);
  };
  std::optional<TreeSide> was;
  if (before)
    was = TreeSide{before->root.entry,
                   [&](const Bytes& path, const Hash&) { return at(index_.directory(path), path); }};
  const TreeSide is{sealed->entry,
                    [&](const Bytes& path, const Hash&) { return at(index_.latest(path), path); }};
  bool directory_times = before.has_value();
  diff_trees(was, is, [&](const TreeChange& c) {
    directory_times = directory_times && c.directory && c.times_only;
    proto::add_change(update, c.change);
    return true;
  });
  directory_times = directory_times && before->root.links == version.root.links &&
                    before->root.owners == version.root.owners;
  closing.changes = update.changes_total;
  if (directory_times && !asked && !after &&
      base::to_ns(now) < before->record.time_ns + static_cast<std::uint64_t>(kTimesOnly.count())) {
    closing.state = State::Deferred;
    return closing;
  }

  control.report({Phase::Packing});
  control.check();
  const auto read = [this](const FileRef& file) { return store_.read(file.hash, file.size); };
  const auto read_new = [this](const FileRef& file) {
    auto bytes = store_.read(file.hash, file.size);
    return bytes ? std::move(bytes) : read_live(file);
  };
  const auto open = [this](const FileRef& file) { return store_.open(file.hash); };
  const auto open_new = [this](const FileRef& file) {
    base::Fd held = store_.open(file.hash);
    return held ? std::move(held) : open_live(file);
  };
  std::function<bool(const Hash&)> maybe_in_base;
  if (store_.kind() != StoreKind::None)
    maybe_in_base = [this](const Hash& content) { return index_.seen(content); };
  version.pack = write_pack({.index = index_,
                             .root = version.root,
                             .links = links,
                             .owners = owners,
                             .read_base = read,
                             .read_target = read_new,
                             .open_base = open,
                             .open_target = open_new,
                             .maybe_in_base = maybe_in_base,
                             .threads = settings_.scan.threads},
                            packs_, &closing.pack);

  proto::VersionRecord& record = version.record;
  record.tree = tree_id();
  record.number = 1;
  if (after || before) {
    const proto::VersionRecord& parent = after ? *after : before->record;
    record.number = parent.number + 1;
    record.parent = proto::version_hash(parent);
  }
  record.counts = totals.counts;
  record.time_ns = base::to_ns(now);
  version.incomplete = kept_ > 0;

  update.record = record;
  update.pack = version.pack;
  update.incomplete = version.incomplete;
  if (settings_.inline_packs && version.pack->size <= proto::kMaxInlinePack) {
    std::ifstream in(pack_path(version.pack->sha256), std::ios::binary);
    update.inline_pack.assign(std::istreambuf_iterator<char>(in), {});
    if (update.inline_pack.size() != version.pack->size)
      throw std::runtime_error("reading back " + pack_path(version.pack->sha256));
  }
  version.body = proto::encode_update(update);

  // Contents, and the names they are held by. (The pack has been synced.)
  if (settings_.durable && ::syncfs(work_.fd()) != 0) base::throw_errno("syncing " + work_.path());
  index_.commit_version(version, links, owners);
  closing.state = State::Closed;
  closing.version = std::move(version);
  return closing;
}

void OriginTree::continue_after(const proto::VersionRecord& last) {
  const auto newest = index_.newest();
  if (newest && newest->record.tree != last.tree)
    throw std::runtime_error("that version is of another tree: " + to_hex(last.tree) +
                             ", and this is " + to_hex(newest->record.tree));
  if (newest && newest->record.number >= last.number)
    throw std::runtime_error("there are later versions here than that one");
  Index::Batch batch(index_);
  index_.set_setting(kTreeIdSetting, last.tree.view());
  index_.set_setting(kParentSetting, proto::encode_version(last));
  batch.commit();
}

std::optional<ChangePage> OriginTree::changes(std::uint64_t number, std::uint64_t skip,
                                              std::size_t limit) const {
  return version_changes(index_, number, skip, limit);
}

void OriginTree::roll_back(std::uint64_t number, const WorkControl& control) {
  Rollback(settings_.path, settings_.scan, work_, index_, store_).to(number, control);
}
std::uint64_t OriginTree::unfinished_rollback() const { return Rollback::unfinished(index_); }
void OriginTree::give_up_rollback() { Rollback::give_up(index_); }

void OriginTree::retain(base::WallTime now) {
  const std::uint64_t first = oldest_retained(index_, settings_.retain, now);
  if (first == 0) return;
  index_.forget_versions_below(first);

  std::unordered_set<std::string> wanted;
  for (const std::uint64_t number : index_.version_numbers())
    if (const auto version = index_.version(number); version->pack)
      wanted.insert(proto::to_hex(version->pack->sha256));
  for (const auto& file : std::filesystem::directory_iterator(packs_)) {
    Hash hash;
    if (proto::from_hex(std::string_view(file.path().filename().native()), hash) &&
        !wanted.contains(file.path().filename()))
      std::filesystem::remove(file.path());
  }
}

bool OriginTree::mend(const KeptReport& found) {
  std::uint64_t mended = 0;
  std::optional<RootDir> root;
  for (const Rot& rot : found.rotten) {
    if (rot.kind != Rot::Kind::Pack && rot.kind != Rot::Kind::Content) continue;
    if (rot.kind == Rot::Kind::Pack)
      std::filesystem::remove(pack_path(rot.hash));
    else
      store_.drop(rot.hash);
    ++mended;
    if (!rot.in_tree) continue;
    try {
      if (!root) root.emplace(settings_.path);
      const auto dir = root->open(proto::parent_path(rot.path));
      store_.hold(dir.get(), Bytes(proto::last_name(rot.path)), 0);
    } catch (const std::system_error&) {
      // It is on its way to be something else.
    }
  }
  return mended == found.count;
}

std::optional<OriginTree::Unsynced> OriginTree::unsynced() {
  if (!hashed_) return std::nullopt;
  Unsynced found;
  found.filesystem = base::Fd(::open(settings_.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!found.filesystem) return std::nullopt;
  found.at = FsClock(work_.fd()).tick();
  hashed_ = false;
  return found;
}

void OriginTree::synced(const timespec& at) { disk_time_.synced(at); }

bool OriginTree::tidy() {
  if (late_links_.some(kLinkStep) || store_.sweep(kSweepStep)) return true;
  index_.shrink();
  return false;
}

std::uint64_t OriginTree::collect_garbage(base::WallTime now, const WorkControl& control) {
  std::vector<std::uint64_t> reachable;
  index_.garbage().each_retained_node([&](ByteView node) {
    proto::NodeReader reader(node);
    Entry entry;
    while (reader.next(entry))
      if (entry.type == EntryType::File) reachable.push_back(short_hash(entry.content));
    control.check();
  });
  std::ranges::sort(reachable);
  reachable.erase(std::unique(reachable.begin(), reachable.end()), reachable.end());

  std::uint64_t dropped = 0;
  Index::Batch batch(index_);
  Garbage& garbage = index_.garbage();
  const std::uint64_t ns = base::to_ns(now);
  const auto grace = static_cast<std::uint64_t>(settings_.gc_grace.count());
  store_.each([&](const Hash& hash) {
    control.check();
    if (std::ranges::binary_search(reachable, short_hash(hash))) return;
    if (garbage.since(hash, ns) + grace > ns) return;
    store_.drop(hash);
    garbage.forget(hash);
    ++dropped;
  });
  garbage.forget_before(ns);
  index_.forget_unused_xattr_sets();
  batch.commit();
  return dropped;
}

}  // namespace mirrorbus::tree
