#include "services/mirror/origin_role.hpp"

#include "services/mirror/fidelity.hpp"
#include "services/mirror/handed_on.hpp"

namespace mirrorbus::mirror {
namespace {

tree::OriginSettings engine_settings(const TreeSettings& settings, const TreeContext& context) {
  tree::OriginSettings engine;
  engine.name = settings.name;
  engine.path = settings.path;
  engine.work = settings.work;
  engine.index_file = context.index_file(settings.name);
  engine.store = *tree::store_kind(settings.store);
  engine.scan.filter = path_filter(settings);
  engine.scan.one_file_system = settings.one_file_system;
  engine.scan.settle = settings.settle;
  engine.scan.xattrs = tree::xattr_mode(settings.xattrs).value_or(tree::default_xattr_mode());
  engine.hold_on_unreadable = settings.hold_on_unreadable;
  engine.retain = settings.retain;
  engine.gc_grace = settings.gc_grace;
  engine.inline_packs = settings.serve_to.empty();
  return engine;
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
      holder_(std::make_shared<TreeHolder>()),
      settle_(settings.settle, settings.max_wait),
      metrics_(context.registry, settings.name),
      quiet_(context.loop),
      reconcile_(context.loop),
      retry_(context.loop),
      tidy_(context.loop),
      root_check_(context.loop),
      hear_(context.loop),
      announce_again_(context.loop),
      hooks_(context_, settings_, log_, worker_,
             [this]() -> const tree::Index& { return tree_->index(); }),
      importer_(context_, settings_, log_,
                [this] { return open_ && !busy_ && !stopping_ && !paused_ && !behind_; },
                [this] { imported(); }),
      reader_(context.loop, context.index_file(settings.name)),
      worker_(context.loop, 1),
      syncer_(context.loop, 1),
      verifier_(context.loop, 1) {
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
  if (tree_) return first_look();
  worker_.submit(
      [this] { tree_ = std::make_unique<tree::OriginTree>(engine_settings(settings_, context_)); },
      [this](base::Outcome<void> done) {
        if (!done) return not_opened(done.error());
        has_index_ = true;
        first_look();
      });
}

void OriginRole::first_look() {
  worker_.submit(
      [this] {
        Opened found;
        // Watched first, looked at then: what changes in between is told of.
        found.root = tree::RootPlace::of(settings_.path);
        found.watching = start_watching();
        const tree::WorkControl control{.progress = {}, .cancel = &cancel_};
        found.rollback_problem = finish_rollback(control);
        found.report = tree_->scan_all(false, control);
        found.newest = tree_->newest();
        for (const std::uint64_t number : tree_->unannounced())
          if (auto version = tree_->index().version(number))
            found.unannounced.push_back(std::move(*version));
        return found;
      },
      [this](base::Outcome<Opened> found) {
        if (!found) return not_opened(found.error());
        busy_ = false;
        opened(std::move(*found));
      });
}

void OriginRole::not_opened(const std::exception_ptr& error) {
  busy_ = false;
  failed("opening", error);
  if (!stopping_) retry_.start(kReopen, [this] { open(); });
}

void OriginRole::opened(Opened found) {
  open_ = true;
  holder_->open(tree_->index_file(), tree_->work().path(), settings_.path);
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
  if (found.newest) newest_here_ = found.newest->record;
  closed_number_ = newest_here_ ? newest_here_->number : 0;
  if (found.unannounced.empty()) return look_elsewhere();
  after_looking_elsewhere();
}

// The first version is published by itself, also of a tree that waits for `publish` otherwise.
void OriginRole::after_looking_elsewhere() {
  looked_elsewhere_ = true;
  if (state_ == TreeState::Fork || nobody_since_) {
    nobody_since_.reset();
    state_ = TreeState::Current;
    last_error_.clear();
  }
  importer_.start();
  if (paused_ || busy_ || importer_.holds_back()) return consider();
  if (closed_number_ == 0 || settings_.publish_auto || !waiting_.empty())
    look(!waiting_.empty(), false);
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
  log_.error("{}; trying again in {} s", last_error_,
             std::chrono::duration_cast<std::chrono::seconds>(kReopen).count());
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
  if (verifying_) {
    if (status.state == TreeState::Current) status.state = TreeState::Verifying;
    progress_.show(status);
  }
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
  if (!has_index_) return reply.refuse(proto::Reject::Busy, 1000);
  reader_.submit([number](const tree::Index& index) { return find_sealed(index, number); },
                 [reply = std::move(reply)](base::Outcome<SealedVersion> found) mutable {
                   answer_sealed(found, std::move(reply));
                 });
}

void OriginRole::changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) {
  if (!has_index_) return reply.refuse(proto::Reject::Busy, 1000);
  reader_.submit(
      [number, skip](const tree::Index& index) {
        return tree::version_changes(index, number, skip, kChangesPage);
      },
      [reply = std::move(reply)](base::Outcome<std::optional<tree::ChangePage>> page) mutable {
        answer_changes(page, std::move(reply));
      });
}

void OriginRole::versions(peer::ControlReply reply) {
  if (!has_index_) return reply.fail("the tree is still being opened");
  reader_.submit([](const tree::Index& index) { return proto::Value(version_list(index)); },
                 [reply = std::move(reply)](base::Outcome<proto::Value> list) mutable {
                   mirror::answer(reply, std::move(list));
                 });
}

void OriginRole::diff(std::uint64_t from, std::uint64_t to, PageStart after,
                      peer::ControlReply reply) {
  if (!has_index_) return reply.fail("the tree is still being opened");
  reader_.submit(
      [this, from, to, after = std::move(after)](const tree::Index& index) {
        if (!diffs_) diffs_ = std::make_unique<TreeDiffs>(index);
        return diffs_->page(from, to, after);
      },
      [reply = std::move(reply)](base::Outcome<proto::Value> page) mutable {
        mirror::answer(reply, std::move(page));
      });
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
