// MirrorRole: when it brings a version in, and what comes of that.
#include "bus/peer/refused.hpp"
#include "proto/tree_sync.hpp"
#include "services/mirror/fidelity.hpp"
#include "services/mirror/handed_on.hpp"
#include "services/mirror/mirror_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

namespace {

constexpr base::Duration kFirstBackoff = 1s;
constexpr base::Duration kMaxBackoff = 60s;
// Outside its hours a tree looks this often whether they have begun.
constexpr base::Duration kHoursAgain = 10s;

}  // namespace

// What the source sent and was no good, though it may have been done without.
void MirrorRole::count_complaints() {
  for (const auto& [why, count] : source_->complaints()) {
    metrics_.bad_items.add(count);
    peer::count_refused(context_.registry, why, count);
  }
  const std::uint64_t aside = sources_.times_set_aside();
  metrics_.set_aside.add(aside - std::exchange(set_aside_told_, aside));
}

void MirrorRole::consider() {
  if (!engine_ || busy_ || paused_ || stopping_ || state_ == TreeState::Fork) return;
  if (known_.empty() || (known_.rbegin()->first <= committed_number_ && !forced_)) return;
  if (context_.loop.now().mono < not_before_) return;
  if (refusal_ && refusal_->number == known_.rbegin()->first && !accepted_) return;
  if (!line_.open()) return retry_.start(kHoursAgain, [this] { consider(); });
  sources_.set(all_sources());
  if (sources_.order().empty()) {
    last_error_ = "no content source: the origin advertises none, and [[tree]] source is empty";
    state_ = TreeState::Failed;
    return;
  }
  if (!chain_complete()) return;
  start_sync();
}

tree::WorkControl MirrorRole::control() {
  tree::WorkControl control;
  control.cancel = &cancel_;
  control.progress = [this](const tree::Progress& now) { progress_.report(now); };
  return control;
}

// Towards the newest version known; if there is none, what the committed one still lacks.
void MirrorRole::start_sync() {
  std::vector<tree::TargetVersion> versions;
  for (const auto& [number, version] : known_)
    if (number > committed_number_ || forced_) versions.push_back(version);
  const proto::VersionRecord target =
      versions.empty() ? *committed_record_ : versions.back().update.record;
  busy_ = true;
  state_ = TreeState::Fetching;
  control().report({tree::Phase::Planning});
  source_ = new_source(target.number);
  source_name_ = sources_.order().front();
  const base::MonoTime started = context_.loop.now().mono;
  log_.info("from version {} to {} from {}", committed_number_, target.number, source_name_);
  context_.publisher.publish(
      context_.sync_topic(settings_.name, "start"),
      proto::encode_sync(
          proto::SyncStart{target.tree, committed_number_, target.number, source_name_}));
  auto sealer = seals_.sealer_for(versions.empty() ? proto::ByteView() : versions.back().sealed);
  worker_.submit(
      [this, versions = std::move(versions),
       accepted = std::exchange(accepted_, forced_ ? accepted_ : std::nullopt), origin = *origin_,
       now = context_.loop.now().wall, sealer = std::move(sealer)] {
        using State = tree::SyncResult::State;
        engine_->dry_run.reset();
        tree::SyncResult result =
            versions.empty() ? engine_->tree.mend(*source_, control())
                             : engine_->tree.bring_to(versions, *source_, control(), accepted);
        const bool committed =
            result.state == State::Committed || result.state == State::Incomplete;
        if (committed) engine_->index.set_setting(kStreamKey, origin.view());
        if (sealer) keep_credential(engine_->index, sealer->first, sealer->second);
        if (committed) engine_->tree.retain(now);
        return result;
      },
      [this, started](base::Outcome<tree::SyncResult> outcome) {
        finished(std::move(outcome), started);
      });
}

void MirrorRole::finished(base::Outcome<tree::SyncResult> outcome, base::MonoTime started) {
  busy_ = false;
  place_.cancel();
  talk_->pulled();
  if (const std::string mostly = source_->mostly(); !mostly.empty()) source_name_ = mostly;
  bytes_received_ += source_->bytes_received();
  metrics_.received.add(source_->bytes_received());
  count_complaints();
  const double seconds = std::chrono::duration<double>(context_.loop.now().mono - started).count();
  if (outcome) {
    apply_result(*outcome, seconds);
  } else {
    try {
      std::rethrow_exception(outcome.error());
    } catch (const tree::Cancelled&) {
      if (paused_) log_.info("paused: the sync under way was stopped");
      state_ = paused_ ? TreeState::Paused : at_rest();
    } catch (const std::system_error& error) {
      failed(base::describe(error), seconds, kDiskAgain);
    } catch (const std::exception& error) {
      failed(base::describe(error), seconds, kMaxBackoff);
    }
  }
  for (peer::ControlReply& reply : std::exchange(syncing_, {})) {
    if (last_error_.empty())
      reply(proto::Value(committed_number_));
    else
      reply.fail(last_error_);
  }
  consider();
}

void MirrorRole::apply_result(const tree::SyncResult& result, double seconds) {
  using State = tree::SyncResult::State;
  last_sync_seconds_ = seconds;
  const proto::VersionRecord target =
      known_.empty() ? *committed_record_ : known_.rbegin()->second.update.record;
  switch (result.state) {
    case State::Committed:
    case State::Incomplete:
    case State::Unchanged:
      return taken(result, seconds);
    case State::Refused:
      // Space comes back by itself; no operator has to look at the version.
      if (result.refusal->why == proto::Reject::Unavailable)
        return failed(result.refusal->text, seconds, kDiskAgain);
      refusal_ = result.refusal;
      if (refusal_->why == proto::Reject::UnsafeTarget) watch_place();
      state_ = TreeState::Refused;
      refused(result.refusal->why,
              fmt::format("version {}: {}", target.number, result.refusal->text));
      return publish_failure(target, seconds);
    case State::Failed:
      std::string why =
          fmt::format("the check after applying found {} entries that repair did not mend",
                      result.mismatches.size());
      if (!result.mismatches.empty())
        why += fmt::format("; first: {} ({})", result.mismatches.front().path,
                           result.mismatches.front().reason);
      return failed(std::move(why), seconds, kMaxBackoff);
  }
}

// A tree that was not where it belongs may be mounted again: nobody has to accept that.
void MirrorRole::watch_place() {
  place_check_.start(kDiskAgain, [this] {
    worker_.submit([this] { return engine_->tree.in_place(); },
                   [this](base::Outcome<bool> found) {
                     if (!refusal_ || refusal_->why != proto::Reject::UnsafeTarget) return;
                     if (!found || !*found) return watch_place();
                     log_.notice("{} is the directory that was mirrored into", settings_.path);
                     refusal_.reset();
                     consider();
                   });
  });
}

void MirrorRole::taken(const tree::SyncResult& result, double seconds) {
  const bool incomplete = result.state == tree::SyncResult::State::Incomplete;
  proto::SyncComplete complete;
  complete.from = committed_number_;
  // It may have come while the version, without it, was on its way in.
  proto::Bytes seal;
  if (const auto done = known_.find(result.version); done != known_.end()) {
    complete.tree = done->second.update.record.tree;
    committed_record_ = done->second.update.record;
    seal = std::move(done->second.sealed);
  }
  committed_number_ = result.version;
  offered_.reset();
  accepted_.reset();
  if (!seal.empty())
    seals_.keep(committed_number_, seal);
  else if (origin_ && committed_record_)
    seals_.want(*origin_, *committed_record_);
  known_.erase(known_.begin(), known_.upper_bound(result.version));
  last_error_.clear();
  backoff_ = {};
  refusal_.reset();
  fidelity_ = describe(result.fidelity);
  lacking_ = incomplete;
  state_ = at_rest();
  metrics_.version.set(static_cast<double>(committed_number_));
  metrics_.syncs.add();
  if (result.edits.count() > 0)
    log_.warning("{} entries had been changed by somebody else here and are as signed again",
                 result.edits.count());
  if (const std::string& bad = source_->last_complaint(); !bad.empty())
    log_.notice("not all that was sent was as it was signed; none of that was taken: {}", bad);
  log_.notice("version {} committed: {} bytes received, {:.3f} s (fetch {:.3f}, stage {:.3f}, "
              "apply {:.3f}, check {:.3f}, commit {:.3f})",
              committed_number_, source_->bytes_received(), seconds, result.fetching.count(),
              result.staging.count(), result.applying.count(), result.checking.count(),
              result.committing.count());
  complete.to = committed_number_;
  complete.tree_hash = result.tree_hash;
  complete.bytes = source_->bytes_received();
  complete.seconds = seconds;
  complete.source = source_name_;
  complete.fidelity = signed_fidelity(result.fidelity, settings_);
  for (const tree::MissingItem& item : result.missing)
    proto::add_missing(complete, {item.path, item.reason});
  complete.missing_total = std::max(complete.missing_total, result.missing_count);
  if (incomplete) {
    last_error_ =
        fmt::format("{} entries are missing; they are tried again", result.missing_count);
    if (const std::string& bad = source_->last_complaint(); !bad.empty()) last_error_ += "; " + bad;
    retry_.start(kMaxBackoff, [this] { mend(); });
  }
  context_.publisher.publish(context_.sync_topic(settings_.name, "complete"),
                             proto::encode_sync(complete));
  committed(committed_number_);
  talk_->wake();
  if (committed_record_ && complete.from != complete.to)
    hooks_.changed("sync", complete.from, *committed_record_);
  if (std::exchange(forced_, false)) {
    asked_through_ = 0;
    if (origin_) ask_newest(*origin_);
  }
}

// What the committed version lacks, unless a newer one is on its way in.
void MirrorRole::mend() {
  if (!engine_ || busy_ || paused_ || stopping_ || !lacking_) return;
  if (head() > committed_number_ || state_ == TreeState::Fork) return;
  if (!line_.open()) return retry_.start(kHoursAgain, [this] { mend(); });
  sources_.set(all_sources());
  if (!sources_.order().empty()) start_sync();
}

void MirrorRole::failed(std::string why, double seconds, base::Duration max_backoff) {
  if (const std::string& bad = source_->last_complaint(); !bad.empty()) why += "; " + bad;
  last_error_ = why;
  state_ = TreeState::Failed;
  metrics_.failures.add();
  backoff_ = backoff_ == base::Duration{} ? kFirstBackoff
                                          : std::min(backoff_ * 2, max_backoff);
  log_.error("sync failed, trying again in {} s: {}",
             std::chrono::duration_cast<std::chrono::seconds>(backoff_).count(), why);
  if (!known_.empty()) publish_failure(known_.rbegin()->second.update.record, seconds);
  not_before_ = context_.loop.now().mono + backoff_;
  retry_.start(backoff_ + 1ms, [this] {
    consider();
    mend();
  });
}

void MirrorRole::publish_failure(const proto::VersionRecord& target, double seconds) {
  const proto::SyncFail fail{target.tree, committed_number_, target.number,
                             source_->bytes_received(), seconds, source_name_, last_error_};
  context_.publisher.publish(context_.sync_topic(settings_.name, "fail"), proto::encode_sync(fail));
}

}  // namespace mirrorbus::mirror
