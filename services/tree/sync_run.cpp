#include "services/tree/sync_run.hpp"

#include "proto/tree_path.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Entry;
using proto::EntryType;
using proto::Reject;
using Trust = LiveTree::Trust;

namespace {

// Settings of the index.
constexpr std::string_view kTree = "mirror.tree";          // the tree id that was pinned
constexpr std::string_view kApplying = "mirror.applying";  // tree hash, several, or empty: none
constexpr std::string_view kRoot = "mirror.root";          // what tells the root from another
constexpr std::string_view kFirst = "mirror.first";        // the same, of a first sync's root
constexpr std::string_view kMissing = "mirror.missing";
constexpr std::string_view kFidelity = "mirror.fidelity";
constexpr std::string_view kPolicy = "mirror.policy";

const Bytes kFirstName = "first";

base::Fd open_work(const std::string& path) {
  base::Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open work folder " + path);
  return fd;
}

// Inode, device and filesystem id. A device number changes when a filesystem is mounted elsewhere,
// an id does not; where there are no ids, the device number has to do.
struct RootIdentity {
  std::uint64_t ino = 0, dev = 0, fsid = 0;

  static RootIdentity of(int fd) {
    struct stat st;
    struct statfs fs;
    if (::fstat(fd, &st) != 0 || ::fstatfs(fd, &fs) != 0) throw_errno("stat the tree's root");
    RootIdentity id{st.st_ino, st.st_dev, 0};
    static_assert(sizeof fs.f_fsid == sizeof id.fsid);
    std::memcpy(&id.fsid, &fs.f_fsid, sizeof id.fsid);
    return id;
  }
  static std::optional<RootIdentity> read(const Index& index, std::string_view key) {
    const auto bytes = index.setting(key);
    if (!bytes || bytes->size() != 24) return {};
    proto::Reader r(*bytes);
    RootIdentity id;
    id.ino = r.u64();
    id.dev = r.u64();
    id.fsid = r.u64();
    return id;
  }
  void write(Index& index, std::string_view key) const {
    Bytes bytes;
    proto::Writer(bytes).u64(ino).u64(dev).u64(fsid);
    index.set_setting(key, bytes);
  }
  bool same(const RootIdentity& other) const {
    return ino == other.ino && (dev == other.dev || (fsid != 0 && fsid == other.fsid));
  }
};

bool is_mount_point(const std::string& path) {
  struct statx st;
  return ::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, 0, &st) == 0 &&
         (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

void sync_filesystem(int fd) {
  if (::syncfs(fd) != 0) throw_errno("syncfs");
}

class Stopwatch {
 public:
  explicit Stopwatch(std::chrono::duration<double>& into) : into_(into) {}
  ~Stopwatch() { into_ += std::chrono::steady_clock::now() - start_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::chrono::duration<double>& into_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Bytes encode(const Fidelity& f) {
  Bytes bytes;
  proto::Writer(bytes).u64(f.owners).u64(f.devices).u64(f.xattrs).u64(f.limits);
  return bytes;
}
Fidelity decode_fidelity(const std::optional<Bytes>& bytes) {
  Fidelity f;
  if (!bytes) return f;
  proto::Reader r(*bytes);
  for (std::uint64_t* n : {&f.owners, &f.devices, &f.xattrs, &f.limits}) *n = r.u64();
  return f;
}

}  // namespace

SyncRun::SyncRun(const MirrorSettings& settings, Index& index, const WorkControl& control)
    : settings_(settings),
      index_(index),
      control_(control),
      ops_(settings.probe),
      work_(open_work(settings.work)),
      cache_(work_.get(), "blobs"),
      staging_(work_.get(), ops_, settings.boot.empty() ? Staging::current_boot() : settings.boot),
      clock_(work_.get()),
      target_(index, cache_),
      chain_(work_.get(), target_, index, control),
      last_(settings.last),
      committed_(index.newest()) {}

Refusal SyncRun::refusal(Reject why, std::string text) const {
  Refusal r;
  r.why = why;
  r.text = std::move(text);
  r.number = to_->update.record.number;
  r.tree_hash = to_->update.record.tree_hash;
  r.from = committed_ ? committed_->record.number : 0;
  return r;
}

std::optional<Refusal> SyncRun::judge_version(const TargetVersion& target) const {
  const proto::VersionRecord& record = target.update.record;
  if (const auto pinned = index_.setting(kTree); pinned && *pinned != record.tree.view())
    return refusal(Reject::ForeignTree,
                   "this mirror follows tree " + proto::to_hex(*pinned) + ", and that is version " +
                       std::to_string(record.number) + " of tree " + to_hex(record.tree));
  if (!committed_) return {};
  const proto::VersionRecord& has = committed_->record;
  if (record.number < has.number)
    return refusal(Reject::VersionRollback,
                   fmt::format("version {} is older than version {}, which is here", record.number,
                               has.number));
  if (record.number == has.number && !(record == has))
    return refusal(Reject::Fork, fmt::format("there are two different versions {}", record.number));
  return {};
}

std::optional<Refusal> SyncRun::judge_deletions() const {
  if (!committed_) return {};
  const auto deletions =
      count_deletions(target_, committed_->root.entry.content, target_.root().entry.content,
                      settings_.max_delete.of(committed_->record.counts.files));
  if (!deletions.too_many()) return {};
  Refusal r = refusal(Reject::MaxDelete, "");
  r.deletions = deletions.files;
  r.limit = deletions.limit;
  r.paths = deletions.paths;
  r.text = fmt::format(
      "version {} would delete {} of {} files, more than max_delete allows ({}): "
      "look at the paths, then accept it or raise max_delete",
      r.number, r.deletions, committed_->record.counts.files, r.limit);
  return r;
}

std::optional<Refusal> SyncRun::judge_space(const Plan& plan) const {
  struct statvfs fs;
  if (::fstatvfs(work_.get(), &fs) != 0) throw_errno("statvfs the work folder");
  const std::uint64_t free = static_cast<std::uint64_t>(fs.f_bavail) * fs.f_frsize;
  const std::uint64_t needed = plan.bytes_to_write();
  if (free >= needed && free - needed >= settings_.min_free_bytes) return {};
  return refusal(Reject::Unavailable,
                 fmt::format("{} bytes are needed and {} to stay free (min_free), but only {} are "
                             "free: make room in {}",
                             needed, settings_.min_free_bytes, free, settings_.work));
}

void SyncRun::place_at(const std::string& path, Trust trust) {
  RootDir root(path);
  const auto st = ops_.look(root.fd(), {});
  Entry entry;
  if (!st || !describe(*st, entry)) throw_errno("stat " + path);
  EntryStat stat = EntryStat::of(*st);
  const auto known = index_.root();
  const bool as_known = known && stat.same_but_device(known->stat);
  if (known) entry.content = known->entry.content;
  if (as_known) entry = known->entry;
  place_.emplace(
      Place{std::move(root), trust, entry, known ? known->stat : EntryStat{}, !as_known});
}

void SyncRun::first_place() {
  const int work = work_.get();
  if (!ops_.look(work, kFirstName)) ops_.make_directory(work, kFirstName, 0700);
  place_at(settings_.work + "/" + kFirstName,
           staging_.left_in_this_boot() ? Trust::OwnWrites : Trust::Nothing);
  place_->first = true;
  RootIdentity::of(place_->root.fd()).write(index_, kFirst);
}

std::optional<Refusal> SyncRun::find_place(bool adopt) {
  const std::string& path = settings_.path;
  struct stat st;
  const bool there = ::lstat(path.c_str(), &st) == 0;
  if (!there && errno != ENOENT) throw_errno("stat " + path);
  const auto known = index_.root();
  if (!there) {
    if (known && !adopt)
      return refusal(Reject::UnsafeTarget,
                     path + " has vanished: mount it again, or accept to make it anew");
    first_place();
    return {};
  }
  base::Fd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open tree " + path);
  const auto identity = RootIdentity::of(fd.get());
  const auto expected = RootIdentity::read(index_, kRoot);
  const auto made_first = RootIdentity::read(index_, kFirst);
  if (known) {
    if (!expected || !expected->same(identity)) {
      if (!adopt)
        return refusal(Reject::UnsafeTarget,
                       path +
                           " is not the directory that was mirrored into: mount that one, or "
                           "accept to take over this one");
      place_at(path, Trust::Contents);
      return {};
    }
    const auto applying = index_.setting(kApplying);
    place_at(path, applying && !applying->empty() ? Trust::Nothing : Trust::Index);
    return {};
  }
  if (made_first && made_first->same(identity)) {  // renamed, but the commit did not come about
    place_at(path, Trust::Nothing);
    return {};
  }
  RootDir root(path);
  std::vector<Bytes> names = ops_.list(root.fd());
  std::erase(names, proto::kWorkFolderName);
  if (!names.empty() && !adopt)
    return refusal(Reject::UnsafeTarget,
                   path +
                       " is not empty and nothing is known of it: accept (or set adopt) to "
                       "overwrite it, or choose another path");
  const bool work_inside = ops_.look(root.fd(), Bytes(proto::kWorkFolderName)).has_value();
  if (!names.empty() || work_inside || S_ISLNK(st.st_mode) || is_mount_point(path))
    place_at(path, Trust::Contents);
  else
    first_place();
  return {};
}

std::string SyncRun::policy_name() const {
  const auto& m = settings_.metadata;
  return fmt::format("{} {} {}", static_cast<int>(m.owner), m.devices, bool(m.set_xattrs));
}

bool SyncRun::policy_changed() const {
  const auto policy = index_.setting(kPolicy);
  return policy && *policy != policy_name();
}

// Node ids do not tell whether an entry has what it shall have.
bool SyncRun::compare_all() const {
  if (policy_changed()) return true;
  return settings_.metadata.owner == OwnerMode::Name && committed_ &&
         committed_->root.owners != target_.root().owners;
}

void SyncRun::start_live(Trust trust) {
  // What was left by applies of several versions looks like anybody's work.
  const auto applying = index_.setting(kApplying).value_or(Bytes());
  const bool several = !applying.empty() && applying != to_hex(to_->update.record.tree_hash);
  live_ = std::make_unique<LiveTree>(index_, place_->root, ops_, *policy_, trust, work_.get(),
                                     several ? nullptr : &result_.edits);
  if (place_->looks_changed) live_->look_into({});
  for (const MissingItem& item : missing(index_)) live_->look_into(proto::parent_path(item.path));
}

proto::Decoded<Plan> SyncRun::make_plan() {
  proto::LinksTable old_links;
  if (committed_) {
    const auto bytes = index_.blob(committed_->root.links);
    auto links = bytes ? proto::decode_links(*bytes) : proto::refuse(Reject::BadHash);
    if (!links) throw std::runtime_error("the index has lost the links table");
    old_links = std::move(*links);
  }
  PlanInput input{*live_,
                  place_->entry,
                  place_->stat,
                  target_,
                  target_.root(),
                  to_->update.record.counts.entries,
                  old_links,
                  target_.links(),
                  *policy_,
                  {},
                  {},
                  compare_all(),
                  ::geteuid() == 0};
  input.offered = [this](const Hash& content) { return chain_.offers(content); };
  if (!last_.empty()) input.last = [this](ByteView path) { return last_.match(path); };
  return tree::make_plan(input);
}

SyncResult SyncRun::bring_to(const std::vector<TargetVersion>& versions, ContentSource& source,
                             const std::optional<Refusal>& accepted, bool hash_everything) {
  to_ = &versions.back();
  const std::uint64_t received = source.bytes_received();
  const auto finish = [&](SyncResult::State state) {
    result_.state = state;
    result_.bytes_received = source.bytes_received() - received;
    const auto now = index_.newest();
    if (now) {
      result_.version = now->record.number;
      result_.tree_hash = now->record.tree_hash;
    }
    result_.fidelity = decode_fidelity(index_.setting(kFidelity));
    return std::move(result_);
  };
  const auto refused = [&](Refusal&& why) {
    result_.refusal = std::move(why);
    return finish(SyncResult::State::Refused);
  };
  const auto accept = [&accepted](const Refusal& why) {
    return accepted && accepted->same_as(why);
  };
  const bool adopt = settings_.adopt || (accepted && accepted->why == Reject::UnsafeTarget &&
                                         accepted->tree_hash == to_->update.record.tree_hash);
  Stopwatch total(result_.total);
  if (auto why = judge_version(*to_)) return refused(std::move(*why));
  const proto::VersionRecord& record = to_->update.record;
  const auto applying = index_.setting(kApplying);
  if (committed_ && committed_->record == record && !committed_->incomplete &&
      (!applying || applying->empty()) && !policy_changed() && !hash_everything)
    return finish(SyncResult::State::Unchanged);

  {
    Stopwatch watch(result_.fetching);
    if (chain_.open(versions, committed_, source)) {
      // All of it is there.
    } else if (auto known = target_.fetch(source, record.tree_hash, record.counts, control_);
               !known)
      return refused(refusal(known.error(), "the signed tree is not well-formed: " +
                                                std::string(to_string(known.error()))));
  }
  if (auto why = judge_deletions(); why && !accept(*why)) return refused(std::move(*why));
  staging_.sort_leftovers();
  if (auto why = find_place(adopt)) return refused(std::move(*why));
  if (hash_everything) place_->trust = Trust::Hashes;
  policy_.emplace(settings_.metadata, target_.owners());
  start_live(place_->trust);
  bool good = round(source, false);
  if (result_.refusal) return finish(SyncResult::State::Refused);
  if (!good) {
    result_.repaired = true;
    good = round(source, true);
    if (result_.refusal) return finish(SyncResult::State::Refused);
  }
  if (!good) return finish(SyncResult::State::Failed);
  staging_.clear();
  cache_.clear();
  chain_.clear();
  return finish(result_.missing_count > 0 ? SyncResult::State::Incomplete
                                          : SyncResult::State::Committed);
}

bool SyncRun::round(ContentSource& source, bool repair) {
  if (repair) {
    // Where everything is has just been looked at by the check; what it could not vouch for, and
    // whatever else changed meanwhile, is looked at again.
    const auto st = ops_.look(place_->root.fd(), {});
    if (!st || !describe(*st, *place_->entry)) throw_errno("stat the tree's root");
    place_->stat = {};
    place_->root.forget({});
    staging_.sort_leftovers();
  }
  result_.missing.clear();
  result_.mismatches.clear();
  result_.missing_count = 0;
  auto planned = make_plan();
  if (!planned) {
    result_.refusal = refusal(planned.error(), "the signed tree contradicts itself: " +
                                                   std::string(to_string(planned.error())));
    return false;
  }
  Plan& plan = *planned;
  if (auto why = judge_space(plan)) {
    result_.refusal = std::move(*why);
    return false;
  }
  ops_.step(Probe::Step::Planned);
  Stager stager({plan, target_, *live_, place_->root, staging_, *policy_, result_.edits, control_});
  stage(stager, source);
  if (!plan.inodes.empty()) sync_filesystem(work_.get());
  ops_.step(Probe::Step::Staged);

  const bool changes = !plan.empty();
  if (changes) mark_applying();
  const timespec begun = clock_.tick();
  ItemErrors errors;
  Applier applier({plan, target_, *live_, place_->root, staging_, stager.staged(), *policy_,
                   result_.edits, errors, control_});
  {
    Stopwatch watch(result_.applying);
    applier.run();
  }
  const timespec ended = clock_.tick();
  ops_.step(Probe::Step::Applied);

  const Checker::Parts parts{plan,
                             target_,
                             *live_,
                             place_->root,
                             stager.staged(),
                             ops_,
                             *policy_,
                             control_,
                             begun,
                             ended,
                             [this](ByteView path) { return index_.directory(path); }};
  Checker checker(parts, applier.suspects());
  Index::Batch batch(index_);
  {
    Stopwatch watch(result_.checking);
    index_.drop_pending();
    left_out_of_removed_ = {};
    for (const Plan::Directory& dir : plan.dirs)
      if (!dir.stays() && !dir.source_only && plan.dirs[dir.parent].stays()) remove_rows(dir.path);
    checker.run([&](const Plan::Directory& dir, DirectoryRow&& row) { put_row(dir, row); });
    checker.check_links([this](const auto& each) {
      index_.each_directory({}, [&](const DirectoryRow& row) {
        if (!index_.pending(row.path)) each(row.path, row.stats);
        return true;
      });
      index_.each_pending(Index::Order::Forward, [&](const PendingRow& pending) {
        if (!pending.removed) each(pending.row.path, pending.row.stats);
        return true;
      });
    });
  }
  result_.missing = stager.missing();
  if (checker.mismatch_count() > 0 && !explained(checker, errors)) {
    recheck(parts, applier);
    return false;
  }
  result_.missing_count = result_.missing.size();
  result_.files_placed += plan.place.size() + plan.place_last.size();
  result_.metadata_changed += plan.change.size() + plan.change_last.size();
  result_.removed += plan.remove.size() + plan.remove_dirs.size();

  Stopwatch watch(result_.committing);
  if (changes) sync_filesystem(place_->root.fd());
  ops_.step(Probe::Step::Checked);
  commit(checker);
  batch.commit();
  ops_.step(Probe::Step::Committed);
  return true;
}

// From here until the commit the tree is between two versions.
void SyncRun::mark_applying() {
  const Bytes now = to_hex(to_->update.record.tree_hash);
  const auto before = index_.setting(kApplying).value_or(Bytes());
  if (before != now) index_.set_setting(kApplying, before.empty() ? now : Bytes("several"));
}

void SyncRun::stage(Stager& stager, ContentSource& source) {
  {
    Stopwatch watch(result_.staging);
    stager.from_the_tree();
    chain_.contents(stager, staging_, place_->root, source);
  }
  if (!stager.wanted().empty()) {
    Stopwatch watch(result_.fetching);
    stager.fetch(source);
  }
  Stopwatch watch(result_.staging);
  stager.finish();
}

// Every mismatch has an error that says why: trying again would meet it again, and one bad item is
// no reason to hold back the rest.
bool SyncRun::explained(const Checker& checker, const ItemErrors& errors) {
  for (const auto& each : checker.mismatches()) {
    const std::string* why = errors.of(each.path);
    if (why)
      result_.missing.push_back({each.path, *why});
    else
      result_.mismatches.push_back({each.path, each.what});
  }
  return result_.mismatches.empty() && checker.mismatches().size() == checker.mismatch_count();
}

// The same check again, this time to tell a new LiveTree what is there.
void SyncRun::recheck(const Checker::Parts& parts, const Applier& applier) {
  auto next = std::make_unique<LiveTree>(index_, place_->root, ops_, *policy_, Trust::Nothing,
                                         work_.get(), &result_.edits);
  Checker again(parts, applier.suspects());
  again.run([&next](const Plan::Directory&, DirectoryRow&& row) { next->now_is(row); });
  live_ = std::move(next);
}

// A plan to the version that is committed already, made without believing any lstat: what it would do
// is what is wrong.
VerifyResult SyncRun::verify() {
  VerifyResult result;
  if (!committed_) throw std::runtime_error("nothing is committed yet: there is nothing to verify");
  TargetVersion self;
  self.update.record = committed_->record;
  to_ = &self;
  const auto links = index_.blob(committed_->root.links);
  const auto owners = index_.blob(committed_->root.owners);
  if (!links || !owners || !target_.set(committed_->root, *links, *owners))
    throw std::runtime_error("the index has lost the links or owners table");
  if (const auto unsafe = find_place(false)) throw std::runtime_error(unsafe->text);
  if (place_->first) throw std::runtime_error(settings_.path + " has vanished");
  policy_.emplace(settings_.metadata, target_.owners());
  start_live(Trust::Hashes);
  auto planned = make_plan();
  if (!planned)
    throw std::runtime_error("the committed tree contradicts itself: " +
                             std::string(to_string(planned.error())));
  const Plan& plan = *planned;

  const auto differs = [&result](Bytes path, std::string what) {
    ++result.count;
    if (result.differences.size() < LocalEdits::kNamed)
      result.differences.push_back({std::move(path), std::move(what)});
  };
  const auto all = [&](const std::vector<Plan::Op>& ops, const std::string& what) {
    for (const Plan::Op& op : ops) {
      const Plan::Directory& dir = plan.dirs[op.dir];
      const auto old = op.was != kNone || !dir.stays() ? live_->again(dir.path) : std::nullopt;
      const Bytes name = op.at != kNone ? target_.node(dir.id).entries[op.at].name
                                        : old->node.entries[op.was].name;
      differs(proto::join_path(dir.path, name), what);
    }
  };
  for (const std::uint32_t dir : plan.make)
    differs(plan.dirs[dir].path, "is missing");
  all(plan.place, "is missing or has another content");
  all(plan.place_last, "is missing or has another content");
  all(plan.link, "is not the same file as the other names of its group");
  all(plan.link_last, "is not the same file as the other names of its group");
  all(plan.change, "has another owner, mode or time");
  all(plan.change_last, "has another owner, mode or time");
  all(plan.remove, "should not be there");
  for (const std::uint32_t dir : plan.remove_dirs)
    differs(plan.dirs[dir].path, "should not be there");
  for (const std::uint32_t dir : plan.finish)
    if (plan.dirs[dir].exists && plan.dirs[dir].differs)
      differs(plan.dirs[dir].path, "has another owner, mode or time");
  result.files = live_->files_read();
  result.bytes = live_->bytes_read();
  result.fidelity = decode_fidelity(index_.setting(kFidelity));
  return result;
}

void SyncRun::put_row(const Plan::Directory& dir, const DirectoryRow& row) {
  // What the index has below and the target has not, where the plan went by what is on disk.
  if (live_->differs(row.path) || !dir.exists) {
    if (const auto was = index_.directory(row.path)) {
      proto::NodeReader olds(was->node);
      Entry old;
      while (olds.next(old)) {
        if (old.type != EntryType::Directory) continue;
        proto::NodeReader news(row.node);
        Entry now;
        bool stays = false;
        while (!stays && news.next(now) && now.name <= old.name)
          stays = now.name == old.name && now.type == EntryType::Directory;
        if (!stays) remove_rows(proto::join_path(row.path, old.name));
      }
    }
  }
  index_.stage(row);
}

void SyncRun::remove_rows(const Bytes& path) {
  index_.each_directory(path, [&](const DirectoryRow& row) {
    proto::NodeReader reader(row.node);
    Entry entry;
    while (reader.next(entry)) policy_->count(entry, left_out_of_removed_);
    return true;
  });
  index_.stage_removal(path);
}

void SyncRun::commit(const Checker& checker) {
  if (place_->first) move_into_place();
  struct stat st;
  if (::fstat(place_->root.fd(), &st) != 0) throw_errno("stat the tree's root");
  RootIdentity::of(place_->root.fd()).write(index_, kRoot);
  index_.stage_root({target_.root().entry, EntryStat::of(st)});

  const auto sum = [](Fidelity a, const Fidelity& b, bool minus) {
    const auto add = [minus](std::uint64_t& x, std::uint64_t y) { x = minus ? x - y : x + y; };
    add(a.owners, b.owners);
    add(a.devices, b.devices);
    add(a.xattrs, b.xattrs);
    add(a.limits, b.limits);
    return a;
  };
  Fidelity fidelity = checker.left_out();
  if (committed_ && !compare_all()) {
    fidelity = sum(fidelity, decode_fidelity(index_.setting(kFidelity)), false);
    fidelity = sum(fidelity, checker.left_out_before(), true);
    fidelity = sum(fidelity, left_out_of_removed_, true);
  }
  fidelity.limits += checker.limits();
  index_.set_setting(kFidelity, encode(fidelity));
  index_.set_setting(kPolicy, policy_name());
  index_.set_setting(kTree, to_->update.record.tree.view());
  index_.set_setting(kApplying, {});
  index_.set_setting(kFirst, {});
  save_missing();

  StoredVersion version;
  version.record = to_->update.record;
  version.root = target_.root();
  version.pack = to_->update.pack;
  version.body = to_->body;
  version.sealed = to_->sealed;
  version.announced = true;
  version.incomplete = !result_.missing.empty();
  index_.commit_version(version, target_.links_bytes(), target_.owners_bytes());
}

// The whole tree appears at once. Should the commit not come about after all, kFirst tells the next
// run that this directory is ours.
void SyncRun::move_into_place() {
  // A plain user can only move a directory that he may write to.
  const std::uint32_t mode = target_.root().entry.mode;
  const bool closed = ::geteuid() != 0 && (mode & S_IWUSR) == 0;
  if (closed) ops_.set_mode(place_->root.fd(), {}, mode | S_IWUSR);
  ops_.mutating("rename", settings_.path);
  if (::renameat(work_.get(), kFirstName.c_str(), AT_FDCWD, settings_.path.c_str()) != 0)
    throw_errno("rename the finished tree to " + settings_.path);
  if (closed) ops_.set_mode(place_->root.fd(), {}, mode);
  const auto slash = settings_.path.rfind('/');
  const std::string holder = slash == std::string::npos ? "." : settings_.path.substr(0, slash + 1);
  base::Fd dir(::open(holder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || ::fsync(dir.get()) != 0) throw_errno("fsync " + holder);
}

void SyncRun::save_missing() {
  Bytes bytes;
  proto::Writer w(bytes);
  w.varint(result_.missing.size());
  for (const MissingItem& item : result_.missing)
    w.varint(item.path.size()).raw(item.path).varint(item.reason.size()).raw(item.reason);
  index_.set_setting(kMissing, bytes);
}

std::vector<MissingItem> SyncRun::missing(const Index& index) {
  std::vector<MissingItem> items;
  const auto bytes = index.setting(kMissing);
  if (!bytes) return items;
  proto::Reader r(*bytes);
  const std::uint64_t count = r.varint();
  for (std::uint64_t i = 0; i < count && !r.failure(); ++i) {
    MissingItem item;
    item.path = r.raw(r.varint());
    item.reason = r.raw(r.varint());
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace mirrorbus::tree
