#include "services/mirror/mirror_role.hpp"

#include "bus/peer/refused.hpp"
#include "proto/tree_sync.hpp"
#include "proto/value.hpp"

#include <algorithm>

#include <sys/stat.h>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kFirstBackoff = 1s;
constexpr base::Duration kMaxBackoff = 60s;
constexpr base::Duration kAskAgain = 2s;
// Versions between the committed one and the newest whose packs are worth collecting into a chain.
constexpr std::uint64_t kMaxChain = 64;
constexpr char kStreamKey[] = "origin_stream";

tree::OwnerMode owner_mode(const std::string& text) {
  if (text == "numeric") return tree::OwnerMode::Numeric;
  if (text == "name") return tree::OwnerMode::Name;
  if (text == "none") return tree::OwnerMode::None;
  return tree::MetadataPolicy::Settings::default_owner();
}

tree::MirrorSettings engine_settings(const TreeSettings& settings, const std::string& work) {
  tree::MirrorSettings engine;
  engine.path = settings.path;
  engine.work = work;
  engine.metadata.owner = owner_mode(settings.owner);
  if (settings.devices) engine.metadata.devices = *settings.devices;
  engine.last = settings.last;
  if (settings.max_delete) engine.max_delete = {*settings.max_delete, 0};
  engine.min_free_bytes = settings.min_free;
  engine.adopt = settings.adopt;
  return engine;
}

std::string describe(const tree::Fidelity& fidelity) {
  if (fidelity.full()) return "full";
  std::string text = "without";
  const auto add = [&](std::uint64_t count, const char* what) {
    if (count > 0) text += fmt::format("{} {} of {}", text.size() > 7 ? "," : "", what, count);
  };
  add(fidelity.owners, "owners");
  add(fidelity.devices, "devices");
  add(fidelity.xattrs, "xattrs");
  add(fidelity.limits, "limits");
  return text;
}

proto::Fidelity signed_fidelity(const tree::Fidelity& fidelity, const TreeSettings& settings) {
  proto::Fidelity out;
  out.full = fidelity.full();
  const tree::OwnerMode owner = owner_mode(settings.owner);
  out.owner = owner == tree::OwnerMode::Numeric ? "numeric" : owner == tree::OwnerMode::Name ? "name" : "none";
  out.xattrs = "none";
  out.devices = fidelity.devices == 0;
  out.owners_left_out = fidelity.owners;
  out.xattrs_left_out = fidelity.xattrs;
  out.devices_left_out = fidelity.devices;
  return out;
}

}  // namespace

namespace {
// A mirror that is to be filled begins as an empty directory; the one above it must be there.
const std::string& with_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) base::throw_errno("making the tree's directory " + path);
  return path;
}
}  // namespace

MirrorRole::Engine::Engine(const TreeSettings& settings, const std::string& index_file)
    : work(with_directory(settings.path), settings.name, settings.work, tree::WorkFolder::Mount::Same),
      index(index_file),
      tree(engine_settings(settings, work.path()), index) {}

MirrorRole::Metrics::Metrics(base::Registry& r, const std::string& tree)
    : version(r.gauge("mirrorbus_tree_version", "Version committed.", {"tree", tree})),
      head_version(r.gauge("mirrorbus_tree_head_version", "Newest version known.", {"tree", tree})),
      lag(r.gauge("mirrorbus_tree_lag_seconds", "Age of the oldest version not yet committed.", {"tree", tree})),
      syncs(r.counter("mirrorbus_tree_syncs_total", "Versions brought in.", {"tree", tree})),
      failures(r.counter("mirrorbus_tree_sync_failures_total", "Syncs that failed.", {"tree", tree})),
      refused(r.counter("mirrorbus_tree_updates_refused_total", "Updates that are not this tree's.", {"tree", tree})),
      received(r.counter("mirrorbus_tree_received_bytes_total", "Content received.", {"tree", tree})) {}

MirrorRole::MirrorRole(const TreeContext& context, const TreeSettings& settings)
    : TreeRole(settings),
      context_(context),
      log_(context.log.area("tree " + settings.name)),
      metrics_(context.registry, settings.name),
      retry_(context.loop),
      worker_(context.loop, 1) {
  open();
}

MirrorRole::~MirrorRole() { stop(); }

void MirrorRole::stop() {
  stopping_ = true;
  cancel_ = true;
  if (source_) source_->cancel();
}

// ---- opening ----

void MirrorRole::open() {
  busy_ = true;
  worker_.submit(
      [this, file = context_.state_dir + "/tree-" + settings_.name + ".sqlite"] {
        engine_ = std::make_unique<Engine>(settings_, file);
        Opened found;
        found.committed = engine_->tree.committed();
        found.stream = engine_->index.setting(kStreamKey);
        found.warning = engine_->work.warning();
        return found;
      },
      [this](base::Outcome<Opened> found) {
        busy_ = false;
        if (found) return opened(std::move(*found));
        state_ = TreeState::Failed;
        last_error_ = what_failed(found.error());
        log_.error("cannot be opened, trying again in a minute: {}", last_error_);
        retry_.start(kMaxBackoff, [this] { open(); });
      });
}

void MirrorRole::opened(Opened found) {
  if (!found.warning.empty()) log_.warning("{}", found.warning);
  if (found.stream && found.stream->size() == proto::Hash::kSize)
    origin_ = proto::Hash::from_bytes(*found.stream);
  if (found.committed) {
    committed_number_ = found.committed->record.number;
    committed_record_ = found.committed->record;
    state_ = found.committed->incomplete ? TreeState::Incomplete : TreeState::Current;
    metrics_.version.set(static_cast<double>(committed_number_));
    committed(committed_number_);
  }
  log_.info("at version {}", committed_number_);
  for (const auto& [stream, name] : publishers_) retry_newest(stream);
  consider();
}

// ---- what is heard ----

void MirrorRole::refused(proto::Reject why, const std::string& text) {
  last_error_ = fmt::format("{}: {}", to_string(why), text);
  log_.warning("{}", last_error_);
  metrics_.refused.add();
  peer::count_refused(context_.registry, why);
}

// What the source sent and was no good, though it may have been done without.
void MirrorRole::count_complaints() {
  for (const auto& [why, count] : source_->complaints()) peer::count_refused(context_.registry, why, count);
}

bool MirrorRole::ours(const proto::Hash& stream, const proto::StreamName& name,
                      const proto::TreeUpdate& update) {
  std::string why;
  if (!settings_.origin.empty() && name.publisher != settings_.origin)
    why = fmt::format("it comes from {}, the configured origin is {}", name.publisher, settings_.origin);
  else if (origin_ && *origin_ != stream)
    why = fmt::format("{} is not the publisher this mirror has pinned", name.publisher);
  else if (committed_record_ && committed_record_->tree != update.record.tree)
    why = "it is of another tree of the same name";
  if (why.empty()) return true;
  refused(proto::Reject::ForeignTree, fmt::format("version {} refused: {}", update.record.number, why));
  return false;
}

void MirrorRole::on_update(const proto::Hash& stream, const proto::StreamName& name,
                           proto::ByteView body, proto::ByteView frame) {
  auto update = proto::decode_update(body);
  if (!update) return refused(update.error(), fmt::format("an update of {} cannot be read", name.publisher));
  if (!ours(stream, name, *update)) return;
  publishers_[stream] = name;
  const std::uint64_t number = update->record.number;
  if (committed_record_ && number == committed_number_ && !(update->record == *committed_record_)) {
    state_ = TreeState::Fork;
    return refused(proto::Reject::Fork,
                   fmt::format("{} now says another version {} than the one committed here; nothing is applied "
                               "until the origin is looked at",
                               name.publisher, number));
  }
  if (number <= committed_number_) return;
  // The first one heard decides; it is written down with the first commit.
  if (!origin_) origin_ = stream;
  known_[number] = {std::move(*update), proto::Bytes(body), proto::Bytes(frame)};
  while (known_.size() > kMaxChain) known_.erase(known_.begin());
  metrics_.head_version.set(static_cast<double>(head()));
  consider();
}

void MirrorRole::on_credential(const proto::Hash& stream, const proto::Credential& credential) {
  publishers_[stream] = credential.stream;
  if (origin_ && *origin_ != stream) return;
  if (!settings_.origin.empty() && credential.stream.publisher != settings_.origin) return;
  if (state_ != TreeState::Starting || !busy_) retry_newest(stream);
}

// The newest version a publisher has, by its sealed event: a mirror that starts does not have to wait
// for the next one.
void MirrorRole::retry_newest(const proto::Hash& stream) {
  if (origin_ && *origin_ != stream) return;
  ask_version(stream, 0, 0);
}

void MirrorRole::ask_version(const proto::Hash& stream, std::uint64_t number, std::uint32_t attempt) {
  proto::Map args{{"name", settings_.name}};
  if (number > 0) args.emplace_back("number", number);
  context_.subscriber->ask(stream, attempt, "tree", args,
                           [this, stream, number, attempt](proto::Decoded<proto::Answer> answer) {
    if (!stopping_) version_answered(stream, number, attempt, answer);
  });
}

void MirrorRole::version_answered(const proto::Hash& stream, std::uint64_t number, std::uint32_t attempt,
                                  const proto::Decoded<proto::Answer>& answer) {
  bool again = !answer;
  if (answer && !answer->refused && answer->parts.size() == 1) {
    const auto event = context_.subscriber->inspect(answer->parts.front(), stream);
    if (event && event->topic == context_.update_topic(settings_.name))
      on_update(stream, event->name, event->body, answer->parts.front());
    else
      again = !event && event.error() == proto::Reject::UnknownCredential;
    if (!event && !again) peer::count_refused(context_.registry, event.error());
  } else if (answer && answer->refused) {
    // Not yet; or this one does not have the tree, and the next one may.
    again = *answer->refused == proto::Reject::Busy || *answer->refused == proto::Reject::Unavailable ||
            attempt + 1 < context_.subscriber->sources(stream);
  }
  if (!again) {
    asking_.erase({stream, number});
    return;
  }
  auto& timer = asking_[{stream, number}];
  if (!timer) timer = std::make_unique<base::Timer>(context_.loop);
  timer->start(kAskAgain, [this, stream, number, attempt] { ask_version(stream, number, attempt + 1); });
}

// ---- syncing ----

std::string MirrorRole::content_url() const {
  if (origin_)
    if (const proto::Credential* credential = context_.subscriber->current_credential(*origin_))
      if (const auto url = credential->endpoint(proto::EndpointKind::Content); !url.empty())
        return std::string(url);
  return settings_.source.empty() ? std::string() : settings_.source.front();
}

// Asks once for versions in between that were not heard: with their packs, a chain can be folded.
bool MirrorRole::chain_complete() {
  const std::uint64_t newest = known_.rbegin()->first;
  if (committed_number_ == 0 || newest - committed_number_ > kMaxChain || asked_through_ >= newest) return true;
  if (!origin_ || context_.subscriber->sources(*origin_) == 0) return true;
  bool complete = true;
  for (std::uint64_t number = committed_number_ + 1; number < newest; ++number) {
    if (known_.contains(number)) continue;
    complete = false;
    ask_version(*origin_, number, 0);
  }
  asked_through_ = newest;
  // Whoever does not answer is not waited for.
  if (!complete) retry_.start(500ms, [this] { consider(); });
  return complete;
}

void MirrorRole::consider() {
  if (!engine_ || busy_ || paused_ || stopping_ || state_ == TreeState::Fork || known_.empty()) return;
  if (known_.rbegin()->first <= committed_number_) return;
  if (context_.loop.now().mono < not_before_) return;
  if (refusal_ && refusal_->number == known_.rbegin()->first && !accepted_) return;
  if (content_url().empty()) {
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
  control.progress = [this](const tree::Progress& now) {
    phase_ = static_cast<int>(now.phase);
    done_bytes_ = now.bytes;
    total_bytes_ = now.bytes_total;
  };
  return control;
}

// Towards the newest version known; if there is none, what the committed one still lacks.
void MirrorRole::start_sync() {
  std::vector<tree::TargetVersion> versions;
  for (const auto& [number, version] : known_)
    if (number > committed_number_) versions.push_back(version);
  const proto::VersionRecord target = versions.empty() ? *committed_record_ : versions.back().update.record;
  busy_ = true;
  state_ = TreeState::Fetching;
  phase_ = static_cast<int>(tree::Phase::Planning);
  source_ = std::make_unique<HttpSource>(content_url());
  source_name_ = source_->name();
  const base::MonoTime started = context_.loop.now().mono;
  log_.info("from version {} to {} from {}", committed_number_, target.number, source_name_);
  context_.publisher.publish(
      context_.sync_topic(settings_.name, "start"),
      proto::encode_sync(proto::SyncStart{target.tree, committed_number_, target.number, source_name_}));
  worker_.submit(
      [this, versions = std::move(versions), accepted = std::exchange(accepted_, std::nullopt), origin = *origin_] {
        tree::SyncResult result = versions.empty()
                                      ? engine_->tree.repair(*source_, control())
                                      : engine_->tree.bring_to(versions, *source_, control(), accepted);
        if (result.state == tree::SyncResult::State::Committed || result.state == tree::SyncResult::State::Incomplete)
          engine_->index.set_setting(kStreamKey, origin.view());
        return result;
      },
      [this, started](base::Outcome<tree::SyncResult> outcome) { finished(std::move(outcome), started); });
}

void MirrorRole::finished(base::Outcome<tree::SyncResult> outcome, base::MonoTime started) {
  busy_ = false;
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
      state_ = paused_ ? TreeState::Paused : TreeState::Current;
    } catch (const std::exception& error) {
      failed(base::describe(error), seconds);
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
    case State::Unchanged: {
      const auto done = known_.find(result.version);
      const std::uint64_t from = committed_number_;
      proto::SyncComplete complete;
      if (done != known_.end()) {
        complete.tree = done->second.update.record.tree;
        committed_record_ = done->second.update.record;
      }
      committed_number_ = result.version;
      known_.erase(known_.begin(), known_.upper_bound(result.version));
      last_error_.clear();
      backoff_ = {};
      refusal_.reset();
      fidelity_ = describe(result.fidelity);
      state_ = result.state == State::Incomplete ? TreeState::Incomplete : TreeState::Current;
      metrics_.version.set(static_cast<double>(committed_number_));
      metrics_.syncs.add();
      if (result.edits.count() > 0)
        log_.warning("{} entries had been changed by somebody else here and are as signed again", result.edits.count());
      log_.notice("version {} committed: {} bytes received, {:.3f} s (fetch {:.3f}, stage {:.3f}, apply {:.3f}, check {:.3f}, commit {:.3f})",
                  committed_number_, source_->bytes_received(), seconds, result.fetching.count(), result.staging.count(),
                  result.applying.count(), result.checking.count(), result.committing.count());
      complete.from = from;
      complete.to = committed_number_;
      complete.tree_hash = result.tree_hash;
      complete.bytes = source_->bytes_received();
      complete.seconds = seconds;
      complete.source = source_name_;
      complete.fidelity = signed_fidelity(result.fidelity, settings_);
      for (const tree::MissingItem& item : result.missing) proto::add_missing(complete, {item.path, item.reason});
      complete.missing_total = std::max(complete.missing_total, result.missing_count);
      if (result.state == State::Incomplete) {
        last_error_ = fmt::format("{} entries are missing; they are tried again", result.missing_count);
        if (const std::string& bad = source_->last_complaint(); !bad.empty()) last_error_ += "; " + bad;
        retry_.start(kMaxBackoff, [this] {
          if (!busy_ && !paused_ && !stopping_ && state_ == TreeState::Incomplete) start_sync();
        });
      }
      context_.publisher.publish(context_.sync_topic(settings_.name, "complete"), proto::encode_sync(complete));
      committed(committed_number_);
      return;
    }
    case State::Refused:
      refusal_ = result.refusal;
      state_ = TreeState::Refused;
      refused(result.refusal->why, fmt::format("version {}: {}", target.number, result.refusal->text));
      break;
    case State::Failed: {
      std::string first = result.mismatches.empty() ? "" : fmt::format("; first: {} ({})", result.mismatches.front().path, result.mismatches.front().reason);
      failed(fmt::format("the check after applying found {} entries that repair did not mend{}", result.mismatches.size(), first), seconds);
      return;
    }
  }
  proto::SyncFail fail{target.tree, committed_number_, target.number,
                       source_->bytes_received(), seconds, source_name_, last_error_};
  context_.publisher.publish(context_.sync_topic(settings_.name, "fail"), proto::encode_sync(fail));
}

void MirrorRole::failed(std::string why, double seconds) {
  if (const std::string& bad = source_->last_complaint(); !bad.empty()) why += "; " + bad;
  last_error_ = why;
  state_ = TreeState::Failed;
  metrics_.failures.add();
  backoff_ = backoff_ == base::Duration{} ? kFirstBackoff : std::min<base::Duration>(backoff_ * 2, kMaxBackoff);
  log_.error("sync failed, trying again in {} s: {}", std::chrono::duration_cast<std::chrono::seconds>(backoff_).count(), why);
  if (!known_.empty()) {
    const proto::VersionRecord& record = known_.rbegin()->second.update.record;
    proto::SyncFail fail{record.tree, committed_number_, record.number, source_->bytes_received(), seconds, source_name_,
                         why.substr(0, proto::kMaxSyncText)};
    context_.publisher.publish(context_.sync_topic(settings_.name, "fail"), proto::encode_sync(fail));
  }
  not_before_ = context_.loop.now().mono + backoff_;
  retry_.start(backoff_ + 1ms, [this] { consider(); });
}

// ---- operators ----

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
    const auto phase = static_cast<tree::Phase>(phase_.load());
    if (phase == tree::Phase::Applying || phase == tree::Phase::Checking || phase == tree::Phase::Committing)
      status.state = TreeState::Applying;
    if (const std::uint64_t total = total_bytes_) status.progress = static_cast<double>(done_bytes_) / static_cast<double>(total);
  }
  if (status.state == TreeState::Current && origin_)
    for (const peer::StreamInfo& info : context_.subscriber->streams())
      if (info.id == *origin_ && info.head_age > settings_.stale_after) status.state = TreeState::Stale;
  for (const auto& [number, version] : known_)
    if (number > committed_number_) {
      const auto age = context_.loop.now().wall - base::from_ns(version.update.record.time_ns);
      status.lag_seconds = std::max(0.0, std::chrono::duration<double>(age).count());
      break;
    }
  status.source = source_name_.empty() ? content_url() : source_name_;
  status.fidelity = fidelity_;
  status.bytes_received = bytes_received_ + (busy_ && source_ ? source_->bytes_received() : 0);
  status.last_sync_seconds = last_sync_seconds_;
  status.last_error = last_error_;
  return status;
}

void MirrorRole::sealed(std::uint64_t number, peer::ServeReply reply) {
  if (!engine_) return reply.refuse(proto::Reject::Busy, 1000);
  worker_.submit([this, number] { return find_sealed(engine_->index, number); },
                 [reply = std::move(reply)](base::Outcome<SealedVersion> found) mutable {
                   answer_sealed(found, std::move(reply));
                 });
}

void MirrorRole::versions(peer::ControlReply reply) {
  if (!engine_) return reply.fail("the tree is still being opened");
  worker_.submit([this] { return version_list(engine_->index); },
                 [reply = std::move(reply)](base::Outcome<proto::Value> list) mutable {
                   if (list)
                     reply(std::move(*list));
                   else
                     reply.fail(what_failed(list.error()));
                 });
}

void MirrorRole::verify(bool repair, peer::ControlReply reply) {
  if (!engine_ || busy_) return reply.fail("the tree is busy; try again when it is current");
  busy_ = true;
  const TreeState before = std::exchange(state_, TreeState::Verifying);
  if (repair) source_ = std::make_unique<HttpSource>(content_url());
  worker_.submit(
      [this, repair] {
        const auto found = engine_->tree.verify(control());
        proto::Array paths;
        for (const auto& difference : found.differences)
          paths.push_back(proto::Map{{"path", proto::path_value(difference.path)}, {"what", difference.what}});
        bool repaired = false;
        if (repair && !found.equal()) {
          const auto result = engine_->tree.repair(*source_, control());
          repaired = result.state == tree::SyncResult::State::Committed || result.state == tree::SyncResult::State::Unchanged;
        }
        return proto::Value(proto::Map{{"equal", found.equal()},
                                       {"differences", found.count},
                                       {"files", found.files},
                                       {"bytes", found.bytes},
                                       {"fidelity", describe(found.fidelity)},
                                       {"repaired", repaired},
                                       {"paths", std::move(paths)}});
      },
      [this, before, reply = std::move(reply)](base::Outcome<proto::Value> found) mutable {
        busy_ = false;
        state_ = before;
        if (found)
          reply(std::move(*found));
        else
          reply.fail(what_failed(found.error()));
        consider();
      });
}

void MirrorRole::sync(peer::ControlReply reply) {
  if (paused_) return reply.fail("the tree is paused; resume it first");
  syncing_.push_back(std::move(reply));
  if (busy_) return;
  if (origin_) retry_newest(*origin_);
  backoff_ = {};
  not_before_ = {};
  consider();
  if (busy_) return;
  for (peer::ControlReply& waiting : std::exchange(syncing_, {})) waiting(proto::Value(committed_number_));
}

void MirrorRole::accept(peer::ControlReply reply) {
  if (!refusal_) return reply.fail("nothing is refused");
  accepted_ = refusal_;
  syncing_.push_back(std::move(reply));
  consider();
}

void MirrorRole::pause() {
  paused_ = true;
  cancel_ = true;
  if (source_) source_->cancel();
}

void MirrorRole::resume() {
  paused_ = false;
  cancel_ = false;
  consider();
}

}  // namespace mirrorbus::mirror
