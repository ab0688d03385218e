// OriginRole: a state that was lost or is an older copy. Others know later versions than we do;
// what is published under numbers they have had would be a fork.
#include "services/mirror/known_elsewhere.hpp"
#include "services/mirror/origin_role.hpp"

namespace mirrorbus::mirror {

void OriginRole::look_elsewhere() {
  if (!context_.asker) return after_looking_elsewhere();
  ask_elsewhere(*context_.asker, context_.elsewhere, settings_.name,
                context_.update_topic(settings_.name), 0,
                [this](std::optional<KnownElsewhere> known) {
                  if (stopping_) return;
                  if (known && known->record.number > closed_number_) {
                    behind_ = true;
                    last_error_ = fmt::format(
                        "{} knows version {} of this tree, and here is {}: was the state lost, or "
                        "restored from an older copy? `adopt {} --from {}` goes on from there, "
                        "`accept` publishes what is here as a history of its own",
                        known->endpoint, known->record.number,
                        closed_number_ ? fmt::format("version {}", closed_number_) : "none",
                        settings_.name, known->record.number);
                    log_.error("{}; nothing is published until then", last_error_);
                    state_ = TreeState::Fork;
                    return fail_waiting(last_error_);
                  }
                  after_looking_elsewhere();
                });
}

void OriginRole::accept(peer::ControlReply reply) {
  if (!std::exchange(behind_, false)) return reply.fail("there is nothing to accept");
  log_.notice("going on with what is here, whatever others know");
  waiting_.push_back({looks_, std::move(reply)});
  after_looking_elsewhere();
}

void OriginRole::adopt(std::uint64_t number, const std::string& source, peer::ControlReply reply) {
  if (!open_ || busy_) return reply.fail("the tree is busy; try again when it is at rest");
  if (paused_) return reply.fail("the tree is paused; resume it first");
  if (number <= closed_number_)
    return reply.fail(fmt::format("version {} is known here already; the newest is {}", number,
                                  closed_number_));
  std::vector<std::string> from = context_.elsewhere;
  if (!source.empty()) from = {source};
  if (!context_.asker || from.empty())
    return reply.fail("nobody to ask for that version: name a serve socket with --source");
  ask_elsewhere(*context_.asker, from, settings_.name, context_.update_topic(settings_.name),
                number,
                [this, number, reply = std::move(reply)](
                    std::optional<KnownElsewhere> known) mutable {
                  if (stopping_) return reply.fail("the daemon is stopping");
                  if (!known)
                    return reply.fail(fmt::format("none of those asked has version {}", number));
                  if (busy_) return reply.fail("the tree is busy; try again when it is at rest");
                  go_on_from(known->record, std::move(reply));
                });
}

void OriginRole::go_on_from(const proto::VersionRecord& record, peer::ControlReply reply) {
  busy_ = true;
  worker_.submit([this, record] { tree_->continue_after(record); },
                 [this, record, reply = std::move(reply)](base::Outcome<void> done) mutable {
                   busy_ = false;
                   if (!done) return reply.fail(what_failed(done.error()));
                   log_.notice("going on from version {} of tree {}", record.number,
                               to_hex(record.tree));
                   behind_ = false;
                   waiting_.push_back({looks_, std::move(reply)});
                   after_looking_elsewhere();
                 });
}

}  // namespace mirrorbus::mirror
