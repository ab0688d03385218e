// OriginRole: a state that was lost or is an older copy. Others know later versions than we do;
// what is published under numbers they have had would be a fork. See docs/decisions/0031.
#include "bus/peer/refused.hpp"
#include "services/mirror/known_elsewhere.hpp"
#include "services/mirror/origin_role.hpp"

namespace mirrorbus::mirror {
namespace {

std::string words(std::uint64_t version) {
  return version ? fmt::format("version {}", version) : "none";
}

}  // namespace

void OriginRole::ask_elsewhere(std::uint64_t number, const std::string& source,
                               std::move_only_function<void(Found)> done) {
  const std::string topic = context_.update_topic(settings_.name);
  context_.elsewhere->ask(
      {settings_.name, topic, number, source},
      [this, topic, done = std::move(done)](KnownElsewhere::Answers answers) mutable {
        Found found;
        found.asked = answers.asked;
        found.silent = answers.silent;
        found.nobody = answers.silent + answers.blind == answers.asked;
        if (stopping_) return done(std::move(found));
        worker_.submit(
            [this, topic, own = context_.elsewhere->own(), now = context_.loop.now(),
             claims = std::move(answers.claims)] {
              return std::pair(weigh(claims, *own, topic, now),
                               tree_->index().latest_totals().counts);
            },
            [this, found = std::move(found), done = std::move(done)](
                base::Outcome<std::pair<Weighed, proto::TreeCounts>> weighed) mutable {
              if (weighed)
                std::tie(found.weighed, found.here) = std::move(*weighed);
              else
                found.problem = what_failed(weighed.error());
              for (const auto& [endpoint, why] : found.weighed.refused) {
                log_.warning("{} hands back a version that this origin has not sealed: {}",
                             endpoint, to_string(why));
                peer::count_refused(context_.registry, why);
              }
              done(std::move(found));
            });
      });
}

void OriginRole::look_elsewhere() {
  if (!context_.elsewhere) return after_looking_elsewhere();
  ask_elsewhere(0, "", [this](Found found) {
    if (stopping_ || looked_elsewhere_) return;  // or an operator would not wait for it
    if (!found.problem.empty()) {
      log_.error("what others know of this tree cannot be judged: {}", found.problem);
      return retry_.start(kReopen, [this] { look_elsewhere(); });
    }
    if (waits_for_answers(found))
      return retry_.start(kAskElsewhereAgain, [this] { look_elsewhere(); });
    judge_elsewhere(found);
  });
}

bool OriginRole::waits_for_answers(const Found& found) {
  if (newest_here_ || found.silent == 0 || !found.nobody) return false;
  const base::MonoTime now = context_.loop.now().mono;
  if (!nobody_since_) nobody_since_ = now;
  if (now - *nobody_since_ >= kSomebody) return false;
  state_ = TreeState::Starting;
  last_error_ = fmt::format(
      "there is no version here, and none of the {} that may know one answers; waiting up to {} s, "
      "unless `bus-mirror accept {}` begins a history",
      found.silent, std::chrono::duration_cast<std::chrono::seconds>(kSomebody).count(),
      settings_.name);
  return true;
}

// What the claims found call for: nothing, going on by itself, or an operator.
void OriginRole::judge_elsewhere(const Found& found) {
  if (const auto& claim = found.weighed.proven) {
    const proto::VersionRecord& theirs = claim->record;
    if (!newest_here_) {
      // A tree that is not all there, after a loss, must not empty those of the mirrors.
      if (found.here.entries < theirs.counts.entries / 2)
        return hold_back(
            theirs.number,
            fmt::format("{} has version {} of this tree, sealed by this origin, with {} entries, "
                        "and here are {}: was the tree lost with the state? When it is complete",
                        claim->endpoint, theirs.number, theirs.counts.entries,
                        found.here.entries));
      log_.notice("{} has version {} of this tree, sealed by this origin, and here is none: the "
                  "state was lost, and versions go on from there",
                  claim->endpoint, theirs.number);
      return go_on_from(theirs, [this](const std::string& problem) {
        if (problem.empty()) return;
        log_.error("going on from what others know: {}", problem);
        if (!stopping_) retry_.start(kReopen, [this] { look_elsewhere(); });
      });
    }
    const bool same = theirs.tree == newest_here_->tree;
    if (same ? theirs.number > newest_here_->number : theirs.time_ns > newest_here_->time_ns)
      return hold_back(
          theirs.number,
          fmt::format("{} has version {} of {}, sealed by this origin, and here is {}: was the "
                      "state restored from an older copy? When the tree is as it should be",
                      claim->endpoint, theirs.number, same ? "this tree" : "another tree",
                      words(closed_number_)));
  }
  // Only who sealed it is unknown: nothing is to be published before somebody has looked.
  if (const auto& claim = found.weighed.unproven;
      claim && claim->record.number > closed_number_)
    return hold_back(
        claim->record.number,
        fmt::format("{} says that there is version {} of this tree, but not under whose "
                    "credential it was sealed, and here is {}: was the state lost? If so",
                    claim->endpoint, claim->record.number, words(closed_number_)),
        " --source " + claim->endpoint);
  after_looking_elsewhere();
}

void OriginRole::hold_back(std::uint64_t number, const std::string& why,
                           const std::string& more) {
  behind_ = true;
  last_error_ = fmt::format(
      "{}, `bus-mirror adopt {} --from {}{}` goes on from there; `bus-mirror accept {}` publishes "
      "what is here as a history of its own",
      why, settings_.name, number, more, settings_.name);
  log_.error("{}; nothing is published until then", last_error_);
  state_ = TreeState::Fork;
  fail_waiting(last_error_);
}

void OriginRole::accept(peer::ControlReply reply) {
  if (!std::exchange(behind_, false) && !nobody_since_)
    return reply.fail("there is nothing to accept");
  retry_.cancel();
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
  if (!context_.elsewhere) return reply.fail("there is nobody to ask for that version");
  ask_elsewhere(number, source, [this, number, named = !source.empty(),
                                 reply = std::move(reply)](Found found) mutable {
    if (stopping_) return reply.fail("the daemon is stopping");
    if (!found.problem.empty()) return reply.fail(found.problem);
    if (busy_) return reply.fail("the tree is busy; try again when it is at rest");
    if (found.asked == 0)
      return reply.fail("nobody to ask for that version: name a serve socket with --source");
    const auto& [proven, unproven, refused] = found.weighed;
    if (!proven && !refused.empty())
      return reply.fail(fmt::format("{} has version {}, but this origin has not sealed it: {}",
                                    refused.front().endpoint, number,
                                    to_string(refused.front().why)));
    if (!proven && unproven && !named)
      return reply.fail(fmt::format(
          "{} has version {}, but not the credential that sealed it; if you know that it is right, "
          "name it with --source",
          unproven->endpoint, number));
    const auto& claim = proven ? proven : unproven;
    if (!claim) return reply.fail(fmt::format("none of those asked has version {}", number));
    if (!proven)
      log_.warning("version {} is taken on an operator's word and that of {}", number,
                   claim->endpoint);
    go_on_from(claim->record, [this, reply = std::move(reply)](const std::string& problem) mutable {
      if (!problem.empty()) return reply.fail(problem);
      waiting_.push_back({looks_, std::move(reply)});
    });
  });
}

// `done` is told what went wrong, or nothing, before the next version is made.
void OriginRole::go_on_from(const proto::VersionRecord& record,
                            std::move_only_function<void(const std::string&)> done) {
  busy_ = true;
  worker_.submit([this, record] { tree_->continue_after(record); },
                 [this, record, done = std::move(done)](base::Outcome<void> went) mutable {
                   busy_ = false;
                   if (!went) return done(what_failed(went.error()));
                   log_.notice("going on from version {} of tree {}", record.number,
                               to_hex(record.tree));
                   behind_ = false;
                   done("");
                   after_looking_elsewhere();
                 });
}

}  // namespace mirrorbus::mirror
