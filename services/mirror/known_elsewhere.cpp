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

namespace {

std::unique_ptr<net::Discovery> discovery(base::Loop& loop, net::Resolver& resolver,
                                          const peer::DiscoverySettings& settings,
                                          base::Registry& registry, const base::Log& log) {
  net::DiscoveryOptions options;
  options.domains = settings.domains;
  for (const auto& source : settings.fixed)
    if (!source.serve.empty()) options.fixed.push_back({"", source.serve});
  net::Discovery::Handlers handlers;
  handlers.on_publisher = handlers.on_publisher_gone = [](const std::string&) {};
  handlers.on_sources = [](const std::vector<std::string>&) {};
  auto made = std::make_unique<net::Discovery>(loop, resolver, std::move(options),
                                               std::move(handlers), registry, log);
  made->start();
  return made;
}

}  // namespace

KnownElsewhere::KnownElsewhere(base::Loop& loop, net::ZmqContext& context,
                               const peer::Settings& settings, const proto::StreamName& name,
                               base::Registry& registry, base::Log log)
    : loop_(loop),
      ours_{settings.bus.serve, settings.bus.advertise_serve},
      own_(std::make_shared<const OwnSeal>(settings.signing.identity(), name)),
      asker_(loop, context, [](proto::Reject) {}, 3s),
      resolver_(std::make_unique<net::DnsResolver>(
          loop, net::DnsResolver::Options{.servers = settings.discovery.resolvers})),
      discovery_(discovery(loop, *resolver_, settings.discovery, registry, log)),
      dns_until_(loop.now().mono + kDns),
      dns_(loop) {}

KnownElsewhere::~KnownElsewhere() = default;

std::vector<std::string> KnownElsewhere::endpoints() const {
  std::vector<std::string> all;
  for (const std::string& endpoint : discovery_->core().sources())
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
  if (!discovery_->core().settled() && loop_.now().mono < dns_until_)
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
