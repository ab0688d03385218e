#include "services/mirror/origin_role.hpp"

#include "proto/tree_update.hpp"
#include "services/mirror/fidelity.hpp"
#include "services/mirror/handed_on.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kRetry = 1s;
constexpr base::Duration kReopen = 60s;
// First the mirrors get what was published.
constexpr base::Duration kTidyAfter = 5s;
constexpr base::Duration kHearTogether = 100ms;
// A root that is mounted over, unmounted or put in another's place tells nobody.
constexpr base::Duration kRootCheck = 5s;

tree::OriginSettings engine_settings(const TreeSettings& settings, const std::string& state_dir) {
  tree::OriginSettings engine;
  engine.name = settings.name;
  engine.path = settings.path;
  engine.work = settings.work;
  engine.index_file = state_dir + "/tree-" + settings.name + ".sqlite";
  engine.store = *tree::store_kind(settings.store);
  engine.scan.filter = path_filter(settings);
  engine.scan.one_file_system = settings.one_file_system;
  engine.scan.settle = settings.settle;
  engine.scan.xattrs = tree::xattr_mode(settings.xattrs).value_or(tree::default_xattr_mode());
  engine.hold_on_unreadable = settings.hold_on_unreadable;
  engine.retain = settings.retain;
  engine.gc_grace = settings.gc_grace;
  return engine;
}

tree::Watching start_watching(const TreeSettings& settings) {
  const tree::PathFilter filter = path_filter(settings);
  return tree::watch_tree(
      settings.path,
      [filter](const proto::Bytes& path) {
        return path == ".mirrorbus" || filter.excludes(path);
      },
      settings.watch, settings.one_file_system);
}

void merge(tree::Dirty& into, tree::Dirty more) {
  into.all |= more.all;
  into.directories.insert(into.directories.end(), more.directories.begin(), more.directories.end());
  into.trees.insert(into.trees.end(), more.trees.begin(), more.trees.end());
}

template <class T>
void sort_unique(std::vector<T>& list) {
  std::ranges::sort(list);
  list.erase(std::ranges::unique(list).begin(), list.end());
}

}  // namespace

OriginRole::Metrics::Metrics(base::Registry& r, const std::string& tree)
    : version(r.gauge("mirrorbus_tree_version", "Version committed.", {"tree", tree})),
      versions(r.counter("mirrorbus_tree_versions_published_total", "Versions published.",
                         {"tree", tree})),
      hashed_bytes(r.counter("mirrorbus_tree_hashed_bytes_total", "File contents read and hashed.",
                             {"tree", tree})),
      problems(r.gauge("mirrorbus_tree_unread_entries",
                       "Entries that could not be read at the last look.", {"tree", tree})) {}

OriginRole::OriginRole(const TreeContext& context, const TreeSettings& settings,
                       std::function<std::uint64_t()> sent)
    : TreeRole(settings),
      context_(context),
      log_(context.log.area("tree " + settings.name)),
      sent_(std::move(sent)),
      holder_(std::make_shared<TreeHolder>(settings.path)),
      settle_(settings.settle, settings.max_wait),
      metrics_(context.registry, settings.name),
      quiet_(context.loop),
      reconcile_(context.loop),
      retry_(context.loop),
      tidy_(context.loop),
      root_check_(context.loop),
      hear_(context.loop),
      hooks_(context_, settings_, log_, worker_,
             [this]() -> const tree::Index& { return tree_->index(); }),
      importer_(context_, settings_, log_,
                [this] { return open_ && !busy_ && !stopping_ && !paused_ && !behind_; },
                [this] { imported(); }),
      worker_(context.loop, 1),
      syncer_(context.loop, 1) {
  open();
}

OriginRole::~OriginRole() { stop(); }

std::shared_ptr<ContentHolder> OriginRole::holder() const { return holder_; }

void OriginRole::stop() {
  stopping_ = true;
  cancel_ = true;
  fail_waiting("the daemon is stopping");
  for (Rolling& one : std::exchange(rolling_, {})) one.reply.fail("the daemon is stopping");
}

// ---- opening ----

void OriginRole::open() {
  busy_ = true;
  state_ = TreeState::Scanning;
  worker_.submit(
      [this] {
        if (!tree_)
          tree_ =
              std::make_unique<tree::OriginTree>(engine_settings(settings_, context_.state_dir));
        Opened found;
        // Watched first, looked at then: what changes in between is told of.
        found.root = tree::RootPlace::of(settings_.path);
        found.watching = start_watching(settings_);
        tree::WorkControl control;
        control.cancel = &cancel_;
        found.rollback_problem = finish_rollback(control);
        found.report = tree_->scan_all(false, control);
        found.newest = tree_->newest();
        for (const std::uint64_t number : tree_->unannounced())
          if (auto version = tree_->index().version(number))
            found.unannounced.push_back(std::move(*version));
        return found;
      },
      [this](base::Outcome<Opened> found) {
        busy_ = false;
        if (found) return opened(std::move(*found));
        failed("opening", found.error());
        if (!stopping_) retry_.start(kReopen, [this] { open(); });
      });
}

void OriginRole::opened(Opened found) {
  open_ = true;
  holder_->open(tree_->index_file(), tree_->work().path());
  if (!tree_->work().warning().empty()) log_.warning("{}", tree_->work().warning());
  log_.info("contents are kept by {}: {}", to_string(tree_->store().kind()),
            tree_->store().reason());
  root_ = found.root;
  watch(std::move(found.watching));
  take_report(found.report);
  state_ = TreeState::Current;
  if (!found.rollback_problem.empty()) stopped_half(found.rollback_problem);
  if (found.newest && found.newest->announced)
  {
    hooked_ = found.newest->record;
    announced(found.newest->record);
  }
  for (const tree::StoredVersion& version : found.unannounced) announce(version);
  root_check_.start(kRootCheck, [this] { check_root(); });
  reconcile_.start(settings_.reconcile, [this] { reconcile(); });
  tidy_.start(kTidyAfter, [this] { tidy(); });
  closed_number_ = found.newest ? found.newest->record.number : 0;
  if (found.unannounced.empty()) return look_elsewhere();
  after_looking_elsewhere();
}

// The first version is published by itself, also of a tree that waits for `publish` otherwise.
void OriginRole::after_looking_elsewhere() {
  looked_elsewhere_ = true;
  if (state_ == TreeState::Fork) {
    state_ = TreeState::Current;
    last_error_.clear();
  }
  importer_.start();
  if (paused_ || busy_ || importer_.holds_back()) return consider();
  if (closed_number_ == 0 || settings_.publish_auto || !waiting_.empty())
    look(!waiting_.empty(), false);
}

// ---- noticing ----

void OriginRole::watch(tree::Watching found) {
  watch_ready_.reset();
  watch_ = std::move(found.watch);
  log_.info("changes are noticed by {}{}{}", to_string(found.kind),
            found.reason.empty() ? "" : ": ", found.reason);
  if (!watch_) return;
  if (watch_->unwatched() > 0)
    log_.warning("{} directories cannot be watched (raise fs.inotify.max_user_watches); what "
                 "changes there is found by bus-mirror publish and every reconcile only",
                 watch_->unwatched());
  watch_ready_ =
      std::make_unique<base::FdWatch>(context_.loop, watch_->fd(), [this](bool, bool) { heard(); });
  watch_ready_->want(true, false);
}

// What was watched is no longer what the path leads to: watched anew, and looked at as a whole.
void OriginRole::check_root() {
  root_check_.start(kRootCheck, [this] { check_root(); });
  if (busy_ || stopping_) return;
  busy_ = true;
  struct Found {
    tree::RootPlace root;
    std::optional<tree::Watching> watching;
  };
  worker_.submit(
      [this, before = root_] {
        Found found;
        found.root = tree::RootPlace::of(settings_.path);
        if (found.root != before && found.root != tree::RootPlace())
          found.watching = start_watching(settings_);
        return found;
      },
      [this](base::Outcome<Found> found) {
        busy_ = false;
        if (!found) {
          failed("watching the tree", found.error());
          root_check_.start(kReopen, [this] { check_root(); });
        } else if (found->root != root_) {
          log_.notice("{}: the root of the tree", found->root == tree::RootPlace() ? "gone" : "new");
          root_ = found->root;
          if (found->watching) watch(std::move(*found->watching));
          dirty_.all = true;
          changed();
        }
        consider();
      });
}

// Not at once: what comes in the next moment costs little more than the first of it.
void OriginRole::heard() {
  watch_ready_->want(false, false);
  hear_.start(std::min(kHearTogether, settings_.settle), [this] { hear(); });
}

void OriginRole::hear() {
  if (!watch_) return;
  tree::Dirty more = watch_->drain();
  watch_ready_->want(true, false);
  if (!more.any()) return;
  merge(dirty_, std::move(more));
  // A tree that changes for long must not grow a list of the same names.
  if (dirty_.directories.size() > 10'000) {
    sort_unique(dirty_.directories);
    sort_unique(dirty_.trees);
  }
  changed();
}

void OriginRole::changed() {
  const base::MonoTime now = context_.loop.now().mono;
  settle_.changed(now);
  if (settle_.too_long(now))
    log_.warning("the tree has not been quiet for {} s; no version is closed until it is",
                 std::chrono::duration_cast<std::chrono::seconds>(settings_.max_wait).count());
  if (!quiet_.running()) quiet_.start_at(*settle_.due(), [this] { consider(); });
}

void OriginRole::consider() {
  if (!open_ || busy_ || stopping_ || !looked_elsewhere_ || behind_) return;
  importer_.consider();
  if (importer_.running()) return;
  // Whoever asked before the last look began only waits for what it found to be announced.
  if (std::ranges::any_of(waiting_, [&](const Waiting& one) { return one.asked == looks_; }))
    return look(true, false);
  if (!rolling_.empty()) return roll_back();
  if (paused_ || importer_.holds_back()) return;
  if (reconcile_due_) return look(true, true);
  const auto due = settle_.due();
  if (!due || !settings_.publish_auto) return;
  if (!settle_.ripe(context_.loop.now().mono)) return quiet_.start_at(*due, [this] { consider(); });
  look(false, false);
}

void OriginRole::reconcile() {
  reconcile_due_ = true;
  reconcile_.start(settings_.reconcile, [this] { reconcile(); });
  consider();
}

void OriginRole::tidy() {
  if (stopping_) return;
  worker_.submit([this] { return tree_->tidy(); },
                 [this](base::Outcome<bool> more) {
                   if (!more)
                     log_.warning(
                         "giving unused space back: {}; tried again after the next version",
                         what_failed(more.error()));
                   else if (*more && !tidy_.running())  // a new version puts the rest off
                     tidy();
                   else if (!*more)
                     sync_tree();
                 });
}

// What the tree's writers left to the kernel is on disk then, and need not be read again after a
// reboot. Not on the worker: a disk that is busy must not hold up a version.
void OriginRole::sync_tree() {
  worker_.submit(
      [this] { return tree_->unsynced(); },
      [this](base::Outcome<std::optional<tree::OriginTree::Unsynced>> found) {
        if (!found || !*found || stopping_) return;
        syncer_.submit(
            [this, filesystem = std::make_shared<base::Fd>(std::move((*found)->filesystem)),
             at = (*found)->at] {
              if (::syncfs(filesystem->get()) != 0) base::throw_errno("syncing the tree");
              return at;
            },
            [this](base::Outcome<timespec> at) {
              if (at) return worker_.submit([this, at = *at] { tree_->synced(at); }, [](auto&&) {});
              log_.warning("{}; after a reboot more is read again", what_failed(at.error()));
            });
      });
}

// ---- closing versions ----

void OriginRole::look(bool everything, bool careful) {
  busy_ = true;
  state_ = TreeState::Scanning;
  ++looks_;
  look_began_ = context_.loop.now().mono;
  if (watch_) merge(dirty_, watch_->drain());
  tree::Dirty dirty = std::exchange(dirty_, {});
  sort_unique(dirty.directories);
  sort_unique(dirty.trees);
  settle_.closed();
  quiet_.cancel();
  if (careful) reconcile_due_ = false;
  const bool asked = !waiting_.empty();
  worker_.submit(
      [this, dirty = std::move(dirty), everything, careful, asked, now = context_.loop.now().wall] {
        tree::WorkControl control;
        control.cancel = &cancel_;
        Closed found;
        if (everything || dirty.all)
          found.report = tree_->scan_all(careful, control);
        else
          found.report = tree_->scan_some(dirty.directories, dirty.trees, control);
        found.closing = tree_->close_version(now, asked, control);
        if (careful) {
          tree_->retain(now);
          tree_->collect_garbage(now, control);
        }
        return found;
      },
      [this](base::Outcome<Closed> found) {
        busy_ = false;
        if (found) {
          looked(*found);
        } else {
          failed("looking at the tree", found.error());
          dirty_.all = true;
          if (!stopping_) retry_.start(kReopen, [this] { look(true, false); });
        }
      });
}

void OriginRole::take_report(const tree::ScanReport& report) {
  metrics_.hashed_bytes.add(report.bytes_hashed);
  metrics_.problems.set(static_cast<double>(report.kept));
  last_error_.clear();
  if (report.root != tree::ScanReport::Root::Present)
    last_error_ = report.root == tree::ScanReport::Root::Gone
                      ? "the root of the tree is gone; nothing is published"
                      : "the root of the tree is empty, and was not; nothing is published";
  else if (report.problem_count > 0)
    last_error_ =
        fmt::format("{} entries stand as they were; first: {} ({}{}{})", report.problem_count,
                    report.problems.front().path, to_string(report.problems.front().kind),
                    report.problems.front().error ? ": " : "",
                    report.problems.front().error
                        ? std::generic_category().message(report.problems.front().error)
                        : "");
  if (!last_error_.empty()) log_.warning("{}", last_error_);
  // What was still being written is looked at again once it is at rest.
  if (report.in_flight > 0 || !report.again.empty()) {
    dirty_.directories.insert(dirty_.directories.end(), report.again.begin(), report.again.end());
    if (report.again.empty()) dirty_.all = true;
    changed();
  }
}

void OriginRole::looked(const Closed& found) {
  looked_ = looks_;
  take_report(found.report);
  last_seconds_ = std::chrono::duration<double>(context_.loop.now().mono - look_began_).count();
  using State = tree::OriginTree::Closing::State;
  state_ = found.report.problem_count > 0 ? TreeState::Incomplete : TreeState::Current;
  switch (found.closing.state) {
    case State::Closed: {
      const tree::StoredVersion& version = *found.closing.version;
      log_.notice("version {} closed in {:.3f} s: {} changes, pack of {} bytes",
                  version.record.number, last_seconds_, found.closing.changes,
                  version.pack ? version.pack->size : 0);
      announce(version);
      tidy_.start(kTidyAfter, [this] { tidy(); });
      break;
    }
    case State::Unchanged:
      answer();
      break;
    case State::Deferred:
      dirty_.directories.emplace_back("");
      retry_.start(kReopen, [this] { consider(); });
      answer();
      break;
    case State::NoRoot:
    case State::Held:
    case State::Unready:
      state_ = TreeState::Failed;
      if (last_error_.empty())
        last_error_ = "entries cannot be read, and on_unreadable = \"hold\" holds versions back";
      fail_waiting(last_error_);
      break;
  }
  consider();
}

void OriginRole::announce(const tree::StoredVersion& version) {
  closed_ = std::max(closed_, version.record.number);
  const auto taken = context_.publisher.publish(
      context_.update_topic(settings_.name), proto::Bytes(version.body),
      [this, number = version.record.number,
       record = version.record](const peer::Publisher::Position& at) {
        worker_.submit([this, number, frame = proto::Bytes(at.frame)] { tree_->mark_announced(number, frame); },
                       [this, record](base::Outcome<void> done) {
                         if (!done) return failed("noting what was announced", done.error());
                         metrics_.versions.add();
                         announced(record);
                       });
      });
  if (taken) return;
  if (taken.error() == peer::PublishError::NotReady || taken.error() == peer::PublishError::Full) {
    retry_.start(kRetry, [this, version] { announce(version); });
    return;
  }
  last_error_ = fmt::format("version {} cannot be published: {}", version.record.number,
                            to_string(taken.error()));
  log_.error("{}", last_error_);
  fail_waiting(last_error_);
}

void OriginRole::announced(const proto::VersionRecord& record) {
  version_ = std::max(version_, record.number);
  tree_hash_ = record.tree_hash;
  if (!hooked_ || hooked_->number < record.number) {
    hooks_.changed("publish", hooked_ ? hooked_->number : 0, record);
    hooked_ = record;
  }
  metrics_.version.set(static_cast<double>(version_));
  committed(version_);
  answer();
}

// Whoever asked before a look began that has ended, once all that was closed is announced.
void OriginRole::answer() {
  if (version_ == 0 || closed_ > version_) return;
  std::vector<Waiting> asked;
  asked.swap(waiting_);
  for (Waiting& waiting : asked) {
    if (waiting.asked < looked_)
      waiting.reply(proto::Value(version_));
    else
      waiting_.push_back(std::move(waiting));
  }
}

void OriginRole::fail_waiting(const std::string& why) {
  std::vector<Waiting> waiting;
  waiting.swap(waiting_);
  for (Waiting& one : waiting) one.reply.fail(why);
}

void OriginRole::failed(const std::string& doing, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const tree::Cancelled&) {
    return;
  } catch (...) {
  }
  state_ = TreeState::Failed;
  last_error_ = doing + ": " + what_failed(error);
  log_.error("{}; trying again in a minute", last_error_);
  fail_waiting(last_error_);
}

// ---- others' questions ----

TreeStatus OriginRole::status() const {
  TreeStatus status;
  status.name = settings_.name;
  status.role = "origin";
  status.path = settings_.path;
  status.version = status.head_version = version_;
  status.tree_hash = tree_hash_;
  status.state = paused_ ? TreeState::Paused : state_;
  status.source = settings_.path;
  status.bytes_sent = sent_();
  status.last_sync_seconds = last_seconds_;
  status.last_error = last_error_.empty() ? importer_.problem() : last_error_;
  if (!importer_.problem().empty() && status.state == TreeState::Current)
    status.state = TreeState::Failed;
  status.hook_error = hooks_.problem();
  return status;
}

void OriginRole::publish(peer::ControlReply reply) {
  if (stopping_) return reply.fail("the daemon is stopping");
  if (paused_) return reply.fail("the tree is paused; resume it first");
  if (behind_) return reply.fail(last_error_);
  waiting_.push_back({looks_, std::move(reply)});
  consider();
}

void OriginRole::sealed(std::uint64_t number, peer::ServeReply reply) {
  if (!open_) return reply.refuse(proto::Reject::Busy, 1000);
  worker_.submit([this, number] { return find_sealed(tree_->index(), number); },
                 [reply = std::move(reply)](base::Outcome<SealedVersion> found) mutable {
                   answer_sealed(found, std::move(reply));
                 });
}

void OriginRole::changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) {
  if (!open_) return reply.refuse(proto::Reject::Busy, 1000);
  worker_.submit(
      [this, number, skip] { return tree_->changes(number, skip, kChangesPage); },
      [reply = std::move(reply)](base::Outcome<std::optional<tree::ChangePage>> page) mutable {
        answer_changes(page, std::move(reply));
      });
}

void OriginRole::versions(peer::ControlReply reply) {
  if (!open_) return reply.fail("the tree is still being opened");
  worker_.submit([this] { return proto::Value(version_list(tree_->index())); },
                 [reply = std::move(reply)](base::Outcome<proto::Value> list) mutable {
                   if (list)
                     reply(std::move(*list));
                   else
                     reply.fail(what_failed(list.error()));
                 });
}

void OriginRole::diff(std::uint64_t from, std::uint64_t to, PageStart after,
                      peer::ControlReply reply) {
  if (!open_) return reply.fail("the tree is still being opened");
  worker_.submit(
      [this, from, to, after = std::move(after)] {
        if (!diffs_) diffs_ = std::make_unique<TreeDiffs>(tree_->index());
        return diffs_->page(from, to, after);
      },
      [reply = std::move(reply)](base::Outcome<proto::Value> page) mutable {
        mirror::answer(reply, std::move(page));
      });
}

void OriginRole::verify(bool, peer::ControlReply reply) {
  reply.fail("an origin's tree is what it publishes; verify a mirror of it");
}

void OriginRole::import(peer::ControlReply reply) {
  if (!importer_.configured())
    return reply.fail("nothing is configured to import: [tree.import] command");
  if (stopping_ || paused_ || behind_ || !looked_elsewhere_)
    return reply.fail(paused_ ? "the tree is paused; resume it first"
                              : "the tree is not ready; see its status");
  importing_.push_back(std::move(reply));
  importer_.run();
}

void OriginRole::imported() {
  for (peer::ControlReply& reply : std::exchange(importing_, {})) {
    if (importer_.problem().empty())
      waiting_.push_back({looks_, std::move(reply)});
    else
      reply.fail(importer_.problem());
  }
  if (!importer_.problem().empty()) fail_waiting(importer_.problem());
  if (importer_.problem().empty() && !busy_ && !paused_ && !stopping_) return look(true, false);
  consider();
}

void OriginRole::pause() { paused_ = true; }

void OriginRole::resume() {
  paused_ = false;
  if (open_ && std::exchange(half_rolled_back_, false))
    worker_.submit([this] { tree_->give_up_rollback(); },
                   [this](base::Outcome<void> done) {
                     if (!done) failed("leaving a rollback", done.error());
                   });
  dirty_.all = true;
  changed();
  consider();
}

}  // namespace mirrorbus::mirror
