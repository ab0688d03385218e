// OriginRole: how it hears that its tree has changed.
#include "services/mirror/fidelity.hpp"
#include "services/mirror/origin_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

namespace {

constexpr base::Duration kHearTogether = 100ms;

}  // namespace

tree::Watching OriginRole::start_watching() const {
  const tree::PathFilter filter = path_filter(settings_);
  return tree::watch_tree(
      settings_.path,
      [filter](const proto::Bytes& path) {
        return path == ".mirrorbus" || filter.excludes(path);
      },
      settings_.watch, settings_.one_file_system);
}

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
          found.watching = start_watching();
        return found;
      },
      [this](base::Outcome<Found> found) {
        busy_ = false;
        if (!found) {
          failed("watching the tree", found.error());
          root_check_.start(kReopen, [this] { check_root(); });
        } else if (found->root != root_) {
          const bool gone = found->root == tree::RootPlace();
          log_.notice("{}: the root of the tree", gone ? "gone" : "new");
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
  dirty_.add(std::move(more));
  // A tree that changes for long must not grow a list of the same names.
  if (dirty_.directories.size() > 10'000) dirty_.sort();
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

void OriginRole::reconcile() {
  reconcile_due_ = true;
  reconcile_.start(settings_.reconcile, [this] { reconcile(); });
  consider();
}

}  // namespace mirrorbus::mirror
