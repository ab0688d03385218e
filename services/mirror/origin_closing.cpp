// OriginRole: when it looks at its tree, what becomes of that, and what it announces.
#include "proto/tree_update.hpp"
#include "services/mirror/origin_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

namespace {

constexpr base::Duration kRetry = 1s;

}  // namespace

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
  if (look_again_ && !retry_.running()) return look(true, false);
  const auto due = settle_.due();
  if (!due || !settings_.publish_auto) return;
  if (!settle_.ripe(context_.loop.now().mono)) return quiet_.start_at(*due, [this] { consider(); });
  look(false, false);
}

void OriginRole::look(bool everything, bool careful) {
  busy_ = true;
  state_ = TreeState::Scanning;
  ++looks_;
  look_began_ = context_.loop.now().mono;
  if (watch_) dirty_.add(watch_->drain());
  tree::Dirty dirty = std::exchange(dirty_, {});
  dirty.sort();
  settle_.closed();
  quiet_.cancel();
  if (careful) reconcile_due_ = false;
  look_again_ = false;
  const bool asked = !waiting_.empty();
  worker_.submit(
      [this, dirty = std::move(dirty), everything, careful, asked, now = context_.loop.now().wall] {
        const tree::WorkControl control{.progress = {}, .cancel = &cancel_};
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
          look_again_ = true;
          if (!stopping_) retry_.start(kReopen, [this] { consider(); });
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
      if (found.report.files_hashed > 0) tidy_.start(kTidyAfter, [this] { tidy(); });
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
  to_announce_.push_back(version);
  if (!announce_again_.running()) announce_next();
}

// In their order; what the bus does not take now waits, with all that came after it.
void OriginRole::announce_next() {
  while (!to_announce_.empty()) {
    const tree::StoredVersion& version = to_announce_.front();
    const proto::VersionRecord record = version.record;
    const auto taken = context_.publisher.publish(
        context_.update_topic(settings_.name), proto::Bytes(version.body),
        [this, record](const peer::Publisher::Position& at) {
          worker_.submit(
              [this, number = record.number, frame = proto::Bytes(at.frame)] {
                tree_->mark_announced(number, frame);
              },
              [this, record](base::Outcome<void> done) {
                if (!done) return failed("noting what was announced", done.error());
                metrics_.versions.add();
                announced(record);
              });
        });
    using Error = peer::PublishError;
    if (!taken && (taken.error() == Error::NotReady || taken.error() == Error::Full))
      return announce_again_.start(kRetry, [this] { announce_next(); });
    to_announce_.pop_front();
    if (taken) continue;
    last_error_ = fmt::format("version {} cannot be published: {}", record.number,
                              to_string(taken.error()));
    log_.error("{}", last_error_);
    fail_waiting(last_error_);
  }
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

// ---- when there is nothing else to do ----

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

}  // namespace mirrorbus::mirror
