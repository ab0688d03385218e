#include "services/relay/intake.hpp"

#include "proto/limits.hpp"

namespace mirrorbus::relay {
namespace {

constexpr std::uint32_t kAgainMs = 250;
constexpr std::string_view kSubmitter = "submitter";

Refusal refusal_of(peer::PublishError error) {
  switch (error) {
    case peer::PublishError::Full:
    case peer::PublishError::NotReady: break;
    case peer::PublishError::BadTopic: return {proto::Reject::BadTopic};
    case peer::PublishError::OutOfScope: return {proto::Reject::ScopeDenied};
    case peer::PublishError::TooLarge: return {proto::Reject::TooLarge};
  }
  return {proto::Reject::Busy, kAgainMs};
}

}  // namespace

Intake::Intake(std::shared_ptr<const RelayRules> rules, peer::Publisher& publisher,
               base::Registry& registry, base::Log log)
    : rules_(std::move(rules)),
      publisher_(publisher),
      registry_(registry),
      log_(log.area("relay")),
      accepted_(registry.counter("mirrorbus_relay_accepted_total",
                                 "Submissions acknowledged as durable.")),
      repeated_(registry.counter("mirrorbus_relay_repeated_total",
                                 "Submissions that were in the journal already.")) {}

void Intake::count_refused(proto::Reject why) {
  registry_
      .counter("mirrorbus_relay_refused_total", "Submissions refused, by reason.",
               {"reason", to_string(why)})
      .add();
}

void Intake::submit(const Client& client, Submission submission, Done done) {
  const auto refuse_now = [&](proto::Reject why) {
    count_refused(why);
    done(std::unexpected(Refusal{why}));
  };
  if (!proto::is_under(submission.topic, rules_->base)) return refuse_now(proto::Reject::BadTopic);
  if (!rules_->allow_topic(client, submission.topic)) {
    log_.warning("refused {} from {}: no [[relay.allow]] rule covers it", submission.topic,
                 client.submitter());
    return refuse_now(proto::Reject::NotAllowed);
  }
  // Whatever the sender wrote there, where it came from is for the relay to say.
  std::erase_if(submission.body, [](const auto& entry) { return entry.first == kSubmitter; });
  if (submission.body.size() >= proto::kMaxMapEntries) return refuse_now(proto::Reject::TooLarge);
  submission.body.emplace_back(kSubmitter, client.submitter());
  proto::Bytes bytes = proto::pack(std::move(submission.body));
  if (!submission.name) return publish_unnamed(submission.topic, std::move(bytes), std::move(done));

  const Name name = std::move(*submission.name);
  auto& waiting = under_way_[name];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;  // a repeat of one that is on its way
  publisher_.find_submission(name.sender, name.n,
                             [this, name, topic = std::move(submission.topic),
                              bytes = std::move(bytes)](std::optional<std::uint64_t> seq) mutable {
                               if (!seq) return publish(name, topic, std::move(bytes));
                               repeated_.add();
                               acknowledge(name, *seq);
                             });
}

void Intake::publish_unnamed(const std::string& topic, proto::Bytes body, Done done) {
  // Shared between the publisher, which may refuse, and us, who then still have to answer.
  const auto shared = std::make_shared<Done>(std::move(done));
  const auto taken = publisher_.publish(topic, std::move(body),
                                        [this, shared](const peer::Publisher::Position& at) {
                                          accepted_.add();
                                          --unnamed_;
                                          (*shared)(at.seq);
                                        });
  if (taken) {
    ++unnamed_;
    return;
  }
  const Refusal refusal = refusal_of(taken.error());
  count_refused(refusal.why);
  (*shared)(std::unexpected(refusal));
}

void Intake::publish(const Name& name, const std::string& topic, proto::Bytes body) {
  const auto taken = publisher_.publish(
      topic, std::move(body),
      [this, name](const peer::Publisher::Position& at) {
        accepted_.add();
        acknowledge(name, at.seq);
      },
      store::SubmissionRecord{name.sender, name.n, 0});
  if (!taken) refuse(name, refusal_of(taken.error()));
}

void Intake::acknowledge(const Name& name, std::uint64_t seq) {
  auto waiting = under_way_.extract(name);
  if (!waiting) return;
  for (Done& done : waiting.mapped()) done(seq);
}

void Intake::refuse(const Name& name, Refusal refusal) {
  auto waiting = under_way_.extract(name);
  if (!waiting) return;
  for (Done& done : waiting.mapped()) {
    count_refused(refusal.why);
    done(std::unexpected(refusal));
  }
}

}  // namespace mirrorbus::relay
