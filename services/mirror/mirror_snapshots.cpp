// MirrorRole: versions held beside each other, the one that is shown, and those that go.
#include "services/mirror/mirror_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

namespace {

constexpr base::Duration kSweepEvery = 60s;
constexpr base::Duration kSweepOn = 200ms;
constexpr std::size_t kSweepNames = 5000;  // at a time

}  // namespace

std::optional<MirrorRole::Pinned> MirrorRole::find_pinned(const Engine& engine) {
  const auto version = engine.tree.pinned();
  if (!version) return {};
  Pinned found{*version, 0};
  for (const std::uint64_t number : engine.index.version_numbers())
    if (number > version->number) {
      found.next_ns = engine.index.version(number)->record.time_ns;
      break;
    }
  return found;
}

void MirrorRole::pinned(Pinned now) {
  paused_ = true;
  pinned_ = std::move(now);
  metrics_.version.set(static_cast<double>(pinned_->version.number));
  log_.notice("version {} is shown until resume", pinned_->version.number);
}

// What is under way is stopped: it would be committed, and not shown.
void MirrorRole::rollback(std::uint64_t number, peer::ControlReply reply) {
  if (!settings_.snapshot)
    return reply.fail("only an origin rolls back, or a mirror with apply = \"snapshot\"");
  if (!engine_) return reply.fail("the tree is still being opened");
  if (stopping_) return reply.fail("the daemon is stopping");
  const bool was_paused = paused_;
  pause();
  worker_.submit(
      [this, number] {
        engine_->tree.pin(number);
        return find_pinned(*engine_);
      },
      [this, was_paused,
       reply = std::move(reply)](base::Outcome<std::optional<Pinned>> found) mutable {
        if (!found) {
          if (!was_paused) resume();
          return reply.fail(what_failed(found.error()));
        }
        pinned(std::move(**found));
        reply(proto::Value(pinned_->version.number));
      });
}

void MirrorRole::unpin() {
  worker_.submit(
      [this] {
        engine_->tree.unpin();
        return true;
      },
      [this](base::Outcome<bool> done) {
        if (!done) {
          last_error_ = what_failed(done.error());
          return log_.error("the newest version cannot be shown: {}", last_error_);
        }
        pinned_.reset();
        metrics_.version.set(static_cast<double>(committed_number_));
        log_.notice("version {} is shown again", committed_number_);
        resume();
      });
}

void MirrorRole::sweep_later(bool soon) {
  sweep_.start(soon ? kSweepOn : kSweepEvery, [this] { sweep(); });
}

// Versions also grow old where no new one comes. Between syncs: freeing is slow, and the index is
// the engine's.
void MirrorRole::sweep() {
  if (stopping_) return;
  if (busy_) return sweep_later(false);
  worker_.submit(
      [this, now = context_.loop.now().wall] {
        engine_->tree.retain(now);
        return settings_.snapshot &&
               engine_->tree.sweep({settings_.retain, settings_.gc_grace}, now, kSweepNames);
      },
      [this](base::Outcome<bool> more) {
        if (!more) log_.error("versions cannot be removed: {}", what_failed(more.error()));
        sweep_later(more && *more);
      });
}

// Which of the versions lie here, also those that the index has forgotten.
void MirrorRole::add_held(proto::Array& versions) const {
  const auto pinned = engine_->tree.pinned();
  const auto held = engine_->tree.snapshots();
  for (const tree::Snapshot& each : held) {
    const bool newest = &each == &held.back();
    const char* what = pinned && pinned->name == each.name ? "pinned"
                       : newest                            ? (pinned ? "newest" : "shown")
                                                           : "held";
    const auto is_it = [&each](const proto::Value& version) {
      return version.find("number")->as_u64() == each.number &&
             *version.find("tree_hash")->as_text() == to_hex(each.tree_hash);
    };
    auto found = std::ranges::find_if(versions, is_it);
    if (found == versions.end()) {
      proto::VersionRecord record;
      record.number = each.number;
      record.tree_hash = each.tree_hash;
      record.time_ns = each.time_ns;
      found = versions.insert(versions.begin(), version_value(record, {}, false, false));
    }
    proto::Map fields = *found->as_map();
    std::erase_if(fields, [](const auto& field) { return field.first == "snapshot"; });
    fields.emplace_back("snapshot", what);
    *found = proto::Value(std::move(fields));
  }
}

}  // namespace mirrorbus::mirror
