#include "services/mirror/known_elsewhere.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

Weighed weigh(std::vector<Claim> claims, const OwnSeal& own, const std::string& topic,
              base::Now now) {
  Weighed found;
  const auto age = [](const Claim& claim) {
    return std::pair(claim.record.time_ns, claim.record.number);
  };
  std::ranges::sort(claims, std::greater(), age);
  for (Claim& claim : claims) {
    // Each costs a run of gpg, and what is older changes nothing any more.
    if (found.proven) break;
    const auto record = own.check(claim.frame, claim.credential, topic, now);
    using proto::Reject;
    if (record)
      found.proven = std::move(claim);
    else if ((record.error() == Reject::UnknownCredential && claim.credential.empty()) ||
             record.error() == Reject::SchemeMismatch) {
      if (!found.unproven || found.unproven->record.number < claim.record.number)
        found.unproven = std::move(claim);
    } else
      found.refused.push_back({claim.endpoint, record.error()});
  }
  return found;
}

KnownElsewhere::KnownElsewhere(base::Loop& loop, net::ZmqContext& context,
                               const peer::Settings& settings, const proto::StreamName& name,
                               const peer::Sources& sources)
    : loop_(loop),
      ours_{settings.bus.serve, settings.bus.advertise_serve},
      own_(std::make_shared<const OwnSeal>(settings.signing.identity(), name)),
      sources_(sources),
      asker_(loop, context, [](proto::Reject) {}, 3s),
      dns_until_(loop.now().mono + kDns),
      dns_(loop) {}

std::vector<std::string> KnownElsewhere::endpoints() const {
  std::vector<std::string> all;
  for (const std::string& endpoint : sources_.serve_endpoints())
    if (std::ranges::find(ours_, endpoint) == ours_.end() && all.size() < kMostAsked)
      all.push_back(endpoint);
  return all;
}

void KnownElsewhere::ask(Question question, Done done) {
  if (!question.source.empty()) return ask_now(question, {question.source}, std::move(done));
  waiting_.emplace_back(std::move(question), std::move(done));
  wait_for_dns();
}

void KnownElsewhere::wait_for_dns() {
  if (!sources_.settled() && loop_.now().mono < dns_until_)
    return dns_.start(50ms, [this] { wait_for_dns(); });
  const auto of = endpoints();
  for (auto& [question, done] : std::exchange(waiting_, {}))
    ask_now(question, of, std::move(done));
}

void KnownElsewhere::ask_now(const Question& question, const std::vector<std::string>& of,
                             Done done) {
  struct Round {
    std::size_t open;
    Answers answers;
    Done done;
  };
  if (of.empty()) return done({});
  // Shared by the answers that are still to come.
  auto round = std::make_shared<Round>(of.size(), Answers{of.size(), 0, 0, {}}, std::move(done));
  proto::Map args{{"name", question.tree}};
  if (question.number > 0) args.emplace_back("number", question.number);
  for (const std::string& endpoint : of) {
    peer::Asker::OnAnswer answered = [round, endpoint, topic = question.topic,
                                      number = question.number](
                                         proto::Decoded<proto::Answer> answer,
                                         const std::string&) {
      if (answer && !answer->refused && !answer->parts.empty())
        if (auto record = claimed_version(answer->parts.front(), topic))
          if (number == 0 || record->number == number)
            round->answers.claims.push_back(
                {endpoint, std::move(answer->parts.front()),
                 answer->parts.size() > 1 ? std::move(answer->parts[1]) : proto::Bytes(),
                 std::move(*record)});
      if (!answer) ++round->answers.silent;
      if (answer && answer->refused == proto::Reject::UnknownVerb) ++round->answers.blind;
      if (--round->open == 0) round->done(std::move(round->answers));
    };
    try {
      asker_.ask(endpoint, "tree", args, std::move(answered));
    } catch (const std::exception&) {  // no endpoint that libzmq knows
      answered(proto::refuse(proto::Reject::Unavailable), {});
    }
  }
}

}  // namespace mirrorbus::mirror
