// OriginRole: going back to an older version. What is there becomes a version first, unless it is
// one; then the tree is changed, looked at, and closed again.
#include "services/mirror/origin_role.hpp"

namespace mirrorbus::mirror {

void OriginRole::rollback(std::uint64_t number, peer::ControlReply reply) {
  if (stopping_) return reply.fail("the daemon is stopping");
  if (!open_) return reply.fail("the tree is still being opened");
  if (paused_ && !half_rolled_back_)
    return reply.fail("the tree is paused; resume it first");
  if (behind_) return reply.fail(last_error_);
  rolling_.push_back({number, std::move(reply)});
  consider();
}

void OriginRole::roll_back() {
  Rolling next = std::move(rolling_.front());
  rolling_.pop_front();
  busy_ = true;
  state_ = TreeState::Applying;
  ++looks_;
  look_began_ = context_.loop.now().mono;
  log_.notice("going back to version {}", next.number);
  worker_.submit(
      [this, number = next.number, now = context_.loop.now().wall] {
        return do_roll_back(number, now);
      },
      [this, reply = std::move(next.reply)](base::Outcome<RolledBack> found) mutable {
        busy_ = false;
        if (found) return rolled_back(std::move(*found), std::move(reply));
        failed("going back", found.error());
        reply.fail(what_failed(found.error()));
        consider();
      });
}

OriginRole::RolledBack OriginRole::do_roll_back(std::uint64_t number, base::WallTime now) {
  using State = tree::OriginTree::Closing::State;
  const tree::WorkControl control{.progress = {}, .cancel = &cancel_};
  RolledBack found;
  const auto close = [&] {
    found.report = tree_->scan_all(false, control);
    auto closing = tree_->close_version(now, true, control);
    if (closing.state == State::Closed)
      found.closed.push_back(std::move(*closing.version));
    else if (closing.state != State::Unchanged)
      throw std::runtime_error("the tree cannot be read completely, or its root is gone");
  };
  try {
    const bool half = tree_->unfinished_rollback() != 0;
    if (half && tree_->unfinished_rollback() != number) tree_->give_up_rollback();
    if (!half || tree_->unfinished_rollback() == 0) close();
    tree_->roll_back(number, control);
    close();
    const auto wanted = tree_->index().version(number);
    const auto now_is = tree_->newest();
    if (wanted && now_is && wanted->record.tree_hash != now_is->record.tree_hash)
      found.problem = fmt::format(
          "version {} is not quite what version {} was: compare them with bus-mirror diff",
          now_is->record.number, number);
  } catch (const tree::Cancelled&) {
    throw;
  } catch (const std::exception& error) {
    found.problem = base::describe(error);
    found.half = tree_->unfinished_rollback() != 0;
  }
  return found;
}

void OriginRole::rolled_back(RolledBack found, peer::ControlReply reply) {
  looked_ = looks_;
  last_seconds_ = std::chrono::duration<double>(context_.loop.now().mono - look_began_).count();
  state_ = found.report.problem_count > 0 ? TreeState::Incomplete : TreeState::Current;
  take_report(found.report);
  if (found.half) {
    stopped_half(found.problem);
  } else if (half_rolled_back_) {
    half_rolled_back_ = paused_ = false;
  }
  if (found.problem.empty())
    waiting_.push_back({looked_ - 1, std::move(reply)});
  else
    reply.fail(found.problem);
  for (const tree::StoredVersion& version : found.closed) announce(version);
  answer();
  consider();
}

// Neither the old version nor the new one: not to be published.
void OriginRole::stopped_half(const std::string& why) {
  half_rolled_back_ = paused_ = true;
  last_error_ = "a rollback stopped half-way, and nothing is published: " + why +
                "; try it again, or resume to publish what is there";
  log_.error("{}", last_error_);
}

std::string OriginRole::finish_rollback(const tree::WorkControl& control) {
  const std::uint64_t number = tree_->unfinished_rollback();
  if (number == 0) return "";
  try {
    tree_->roll_back(number, control);
    return "";
  } catch (const tree::Cancelled&) {
    throw;
  } catch (const std::exception& error) {
    return base::describe(error);
  }
}

}  // namespace mirrorbus::mirror
