#include "bus/net/discovery.hpp"

#include <utility>

namespace mirrorbus::net {

Discovery::Discovery(base::Loop& loop, Resolver& resolver, DiscoveryOptions options,
                     Handlers handlers, base::Registry& registry, base::Log log, RandomUpTo random)
    : loop_(loop),
      resolver_(resolver),
      core_(std::move(options), std::move(random)),
      handlers_(std::move(handlers)),
      log_(std::move(log)),
      failures_(registry.counter("mirrorbus_dns_refresh_failures_total",
                                 "Questions to DNS that nobody answered.")),
      count_(registry.gauge("mirrorbus_discovered_publishers", "Publisher endpoints known.")),
      timer_(loop),
      alive_(std::make_shared<bool>(true)) {}

Discovery::~Discovery() { *alive_ = false; }

void Discovery::remember(std::vector<DiscoveryCore::Held> held) {
  core_.remember(std::move(held));
  told_held_ = core_.held();
}

void Discovery::start() {
  tell();
  step();
}

void Discovery::set_options(DiscoveryOptions options) {
  core_.set_options(std::move(options));
  tell();
  step();
}

void Discovery::step() {
  using Query = DiscoveryCore::Query;
  for (const Query& query : core_.due(loop_.now().mono)) {
    const auto done = [this, alive = alive_, query](auto answer) {
      if (*alive) take(query, std::move(answer));
    };
    if (query.kind == Query::Kind::Host)
      resolver_.resolve_host(query.name, done);
    else
      resolver_.resolve_srv(query.name, done);
  }
  if (const auto next = core_.next())
    timer_.start(*next - loop_.now().mono, [this] { step(); });
  else
    timer_.cancel();
}

template <class Answer>
void Discovery::take(const DiscoveryCore::Query& query, Answer answer) {
  // Once when it begins to fail and once when it is over, not at every try.
  if (answer.status == DnsStatus::Failed) {
    failures_.add();
    if (failing_.insert(query.name).second)
      log_.warning("DNS does not answer for {}: {}; going on with what is known", query.name,
                   answer.error);
  } else if (failing_.erase(query.name) > 0) {
    log_.notice("DNS answers again for {}", query.name);
  }
  core_.answered(query, std::move(answer), loop_.now().mono);
  tell();
  step();
}

void Discovery::tell() {
  // A copy: a handler may change the options.
  const std::set<std::string> now = core_.publishers();
  const std::set<std::string> before = std::exchange(told_publishers_, now);
  count_.set(static_cast<double>(now.size()));
  for (const std::string& endpoint : now)
    if (!before.contains(endpoint)) {
      log_.info("publisher at {}", endpoint);
      handlers_.on_publisher(endpoint);
    }
  for (const std::string& endpoint : before)
    if (!now.contains(endpoint)) {
      log_.info("no publisher at {} any more", endpoint);
      handlers_.on_publisher_gone(endpoint);
    }
  if (told_sources_ != core_.sources()) {
    told_sources_ = core_.sources();
    handlers_.on_sources(told_sources_);
  }
  if (!handlers_.on_held) return;
  if (auto held = core_.held(); held != told_held_) {
    told_held_ = held;
    handlers_.on_held(std::move(held));
  }
}

}  // namespace mirrorbus::net
