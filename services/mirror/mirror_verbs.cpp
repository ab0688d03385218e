// MirrorRole: what operators see and say, and what is handed on to others.
#include "proto/tree_sync.hpp"
#include "services/mirror/fidelity.hpp"
#include "services/mirror/mirror_role.hpp"
#include "services/mirror/verify_answer.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

TreeStatus MirrorRole::status() const {
  TreeStatus status;
  status.name = settings_.name;
  status.role = "mirror";
  status.path = settings_.path;
  status.version = committed_number_;
  status.head_version = head();
  if (committed_record_) status.tree_hash = committed_record_->tree_hash;
  status.state = paused_ ? TreeState::Paused : state_;
  if (busy_ && state_ == TreeState::Fetching) {
    const tree::Phase phase = progress_.phase();
    if (phase == tree::Phase::Applying || phase == tree::Phase::Checking ||
        phase == tree::Phase::Committing)
      status.state = TreeState::Applying;
  }
  if (busy_ && (state_ == TreeState::Fetching || state_ == TreeState::Verifying))
    progress_.show(status);
  if (status.state == TreeState::Current && origin_)
    for (const peer::StreamInfo& info : context_.subscriber->streams())
      if (info.id == *origin_ && info.head_age > settings_.stale_after &&
          !talk_->heard(settings_.stale_after))
        status.state = TreeState::Stale;
  status.lag_seconds = lag_seconds();
  status.source = source_name_;
  status.sources = sources_.places();
  status.fidelity = fidelity_;
  status.bytes_received = bytes_received_ + (busy_ && source_ ? source_->bytes_received() : 0);
  status.last_sync_seconds = last_sync_seconds_;
  status.last_error = last_error_;
  if (pinned_) {
    status.version = pinned_->version.number;
    status.tree_hash = pinned_->version.tree_hash;
    status.last_error = fmt::format(
        "paused: version {} is shown since a rollback, until resume; version {} is committed",
        status.version, committed_number_);
  }
  status.hook_error = hooks_.problem();
  return status;
}

void MirrorRole::versions(peer::ControlReply reply) {
  if (!engine_) return reply.fail("the tree is still being opened");
  // Of those that are still to come, only what was announced is known.
  std::vector<tree::TargetVersion> coming;
  for (const auto& [number, version] : known_) coming.push_back(version);
  worker_.submit(
      [this, coming = std::move(coming)] {
        proto::Array list = version_list(engine_->index);
        if (settings_.snapshot) add_held(list);
        for (const tree::TargetVersion& version : coming)
          list.push_back(version_value(version.update.record, version.update.pack,
                                       version.update.incomplete, false));
        return proto::Value(std::move(list));
      },
      [reply = std::move(reply)](base::Outcome<proto::Value> list) mutable {
        answer(reply, std::move(list));
      });
}

void MirrorRole::diff(std::uint64_t from, std::uint64_t to, PageStart after,
                      peer::ControlReply reply) {
  if (!engine_) return reply.fail("the tree is still being opened");
  worker_.submit([this, from, to,
                  after = std::move(after)] { return engine_->diffs.page(from, to, after); },
                 [reply = std::move(reply)](base::Outcome<proto::Value> page) mutable {
                   answer(reply, std::move(page));
                 });
}

// Towards the newest version known, also of a tree that is paused or refuses it.
void MirrorRole::dry_run(PageStart after, peer::ControlReply reply) {
  if (!engine_ || busy_) return reply.fail("the tree is busy; try again when it is at rest");
  if (known_.empty())
    return committed_number_ > 0
               ? reply(proto::Map{{"items", proto::Array{}},
                                  {"from", committed_number_},
                                  {"to", committed_number_}})
               : reply.fail("no version of the tree is known yet");
  busy_ = true;
  const bool again = after.has_value();
  if (!again) {
    sources_.set(all_sources());
    // A look at nodes alone need not wait for its turn to pull.
    source_ = std::make_unique<ManySources>(
        sources_, [order = sources_.order()](const std::string&) { return order; });
  }
  worker_.submit(
      [this, again, after = std::move(after), to = known_.rbegin()->second] {
        auto& run = engine_->dry_run;
        if (!again || !run || !(run->to() == to.update.record)) {
          if (again) throw std::runtime_error("a newer version has come meanwhile; ask once more");
          run.reset();
          run = std::make_unique<tree::DryRun>(engine_->tree.settings(), engine_->index, to,
                                               *source_, tree::WorkControl{});
        }
        proto::Map page = diff_page(run->itemizer(), after);
        page.emplace_back("from", run->from());
        page.emplace_back("to", run->to().number);
        if (run->refusal()) page.emplace_back("refused", run->refusal()->text);
        if (!page_follows(page)) run.reset();
        return proto::Value(std::move(page));
      },
      [this, reply = std::move(reply)](base::Outcome<proto::Value> page) mutable {
        busy_ = false;
        answer(reply, std::move(page));
        consider();
      });
}

void MirrorRole::verify(bool repair, peer::ControlReply reply) {
  if (!engine_ || busy_) return reply.fail("the tree is busy; try again when it is current");
  if (paused_) return reply.fail("the tree is paused; resume it first");
  busy_ = true;
  const TreeState before = std::exchange(state_, TreeState::Verifying);
  control().report({tree::Phase::Verifying});
  if (repair) {
    sources_.set(all_sources());
    source_ = new_source(committed_number_);
  }
  worker_.submit(
      [this, repair] {
        using State = tree::SyncResult::State;
        const auto found = engine_->tree.verify(control());
        bool repaired = repair && !found.equal();
        if (repaired && found.kept.count > 0)
          repaired = engine_->tree.mend_kept(found.kept, *source_);
        if (repair && found.count > 0) {
          const auto result = engine_->tree.repair(*source_, control());
          repaired = repaired && (result.state == State::Committed ||
                                  result.state == State::Unchanged);
        }
        if (repair && !found.equal() && !found.kept.has(tree::Rot::Kind::Index))
          repaired = engine_->tree.mend_older(*source_) && repaired;
        return verify_answer(found, repaired);
      },
      [this, before, reply = std::move(reply)](base::Outcome<proto::Value> found) mutable {
        busy_ = false;
        place_.cancel();
        talk_->pulled();
        state_ = before;
        if (found) say_verified(*found);
        answer(reply, std::move(found));
        consider();
      });
}

// A tree that is not what was signed is everybody's business.
void MirrorRole::say_verified(const proto::Value& found) {
  const proto::Value *equal = found.find("equal"), *repaired = found.find("repaired");
  if (!committed_record_ || equal->as_bool().value_or(true) || repaired->as_bool().value_or(true))
    return;
  const std::uint64_t differences = found.find("differences")->as_u64().value_or(0);
  const std::uint64_t rotten = found.find("rotten")->as_u64().value_or(0);
  const std::string error = fmt::format("verify found {} differences", differences);
  log_.error("version {}: {}", committed_number_, error);
  if (differences == rotten) return;  // nobody else reads what lies beside the tree
  context_.publisher.publish(
      context_.sync_topic(settings_.name, "fail"),
      proto::encode_sync(proto::SyncFail{committed_record_->tree, committed_number_,
                                         committed_number_, 0, 0, settings_.path, error}));
}

void MirrorRole::sync(peer::ControlReply reply) {
  if (paused_) return reply.fail("the tree is paused; resume it first");
  syncing_.push_back(std::move(reply));
  if (busy_) return;
  if (origin_) ask_newest(*origin_);
  backoff_ = {};
  not_before_ = {};
  consider();
  mend();
  if (busy_) return;
  for (peer::ControlReply& waiting : std::exchange(syncing_, {}))
    waiting(proto::Value(committed_number_));
}

void MirrorRole::accept(peer::ControlReply reply) {
  if (busy_) return reply.fail("the tree is busy; try again when it is at rest");
  if (offered_)
    take_offered();
  else if (refusal_)
    accepted_ = refusal_;
  else
    return reply.fail("nothing is refused");
  syncing_.push_back(std::move(reply));
  consider();
  // There is nobody to sync from: who asked is told, and need not wait for that to change.
  if (!busy_ && state_ == TreeState::Failed)
    for (peer::ControlReply& waiting : std::exchange(syncing_, {})) waiting.fail(last_error_);
}

void MirrorRole::pause() {
  paused_ = true;
  cancel_ = true;
  if (source_) source_->cancel();
}

void MirrorRole::resume() {
  if (pinned_) return unpin();
  paused_ = false;
  if (!stopping_) cancel_ = false;
  consider();
  mend();
}

}  // namespace mirrorbus::mirror
