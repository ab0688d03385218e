#include "bus/net/discovery_core.hpp"

#include "bus/net/endpoint.hpp"

#include <algorithm>

namespace mirrorbus::net {
namespace {

using namespace std::chrono_literals;
using Kind = DiscoveryCore::Query::Kind;

constexpr base::Duration kSoonest = 2s, kLatest = 1h, kLatestNegative = 60s, kNoTtl = 30s;
// Of one SRV target or static name: a name with more is somebody's joke.
constexpr std::size_t kMaxAddresses = 8;

std::optional<Endpoint> name_to_resolve(const std::string& text) {
  auto endpoint = parse_endpoint(text);
  if (!endpoint || endpoint->is_literal()) return std::nullopt;
  return endpoint;
}

void keep_old_addresses(std::vector<SrvRecord>& records, const std::vector<SrvRecord>& old) {
  for (SrvRecord& record : records) {
    if (record.resolved) continue;
    const auto it = std::ranges::find(old, record.target, &SrvRecord::target);
    if (it != old.end()) record.addresses = it->addresses;
  }
}

// Different orders of the same set are the same.
bool same_set(std::vector<SrvRecord> a, std::vector<SrvRecord> b) {
  const auto key = [](const SrvRecord& r) {
    return std::tie(r.priority, r.weight, r.target, r.port);
  };
  std::ranges::sort(a, {}, key);
  std::ranges::sort(b, {}, key);
  for (auto* const list : {&a, &b})
    for (SrvRecord& record : *list) {
      std::ranges::sort(record.addresses);
      record.resolved = true;
    }
  return a == b;
}

}  // namespace

DiscoveryCore::Query DiscoveryCore::Query::srv(Kind kind, const std::string& domain) {
  return {kind,
          (kind == Kind::Publishers ? "_mirrorbus._tcp." : "_mirrorbus-serve._tcp.") + domain};
}

DiscoveryCore::DiscoveryCore(DiscoveryOptions options, RandomUpTo random)
    : random_(std::move(random)) {
  set_options(std::move(options));
}

void DiscoveryCore::set_options(DiscoveryOptions options) {
  options_ = std::move(options);
  std::map<Query, Lookup> wanted;
  const auto want = [this, &wanted](Query query) {
    auto held = lookups_.extract(query);
    if (held.empty())
      wanted.try_emplace(std::move(query));
    else
      wanted.insert(std::move(held));
  };
  for (const std::string& domain : options_.domains) {
    want(Query::srv(Kind::Publishers, domain));
    want(Query::srv(Kind::Sources, domain));
  }
  for (const StaticSource& source : options_.fixed)
    for (const std::string* text : {&source.publish, &source.serve})
      if (const auto endpoint = name_to_resolve(*text)) want({Kind::Host, endpoint->host});
  lookups_ = std::move(wanted);
  combine();
}

void DiscoveryCore::remember(std::vector<Held> held) {
  const auto literal = [](const std::string& address) { return is_literal_address(address); };
  const auto possible = [&](const SrvRecord& record) {
    return record.target != "." && std::ranges::all_of(record.addresses, literal);
  };
  for (Held& each : held) {
    const auto it = lookups_.find(each.query);
    if (it == lookups_.end() || it->second.held() > 0) continue;
    if (!std::ranges::all_of(each.records, possible) ||
        !std::ranges::all_of(each.addresses, literal))
      continue;
    it->second.records = std::move(each.records);
    it->second.addresses = std::move(each.addresses);
  }
  combine();
}

std::vector<DiscoveryCore::Held> DiscoveryCore::held() const {
  std::vector<Held> out;
  for (const auto& [query, lookup] : lookups_)
    if (lookup.held() > 0) out.push_back({query, lookup.records, lookup.addresses});
  return out;
}

std::vector<DiscoveryCore::Query> DiscoveryCore::due(base::MonoTime now) {
  std::vector<Query> out;
  for (auto& [query, lookup] : lookups_) {
    if (lookup.asking || lookup.due > now) continue;
    lookup.asking = true;
    out.push_back(query);
  }
  return out;
}

std::optional<base::MonoTime> DiscoveryCore::next() const {
  std::optional<base::MonoTime> soonest;
  for (const auto& [query, lookup] : lookups_)
    if (!lookup.asking) soonest = std::min(soonest.value_or(lookup.due), lookup.due);
  return soonest;
}

base::Duration DiscoveryCore::jittered(base::Duration duration) {
  const auto fifth = static_cast<std::uint64_t>(duration.count()) / 5;
  return duration - base::Duration(static_cast<std::int64_t>(random_(fifth)));
}

// Sets when to ask again. True if the answer says what there is now (perhaps nothing).
template <class Answer>
bool DiscoveryCore::take(Lookup& lookup, const Answer& answer, base::MonoTime now) {
  lookup.asking = false;
  lookup.answered = true;
  lookup.status = answer.status;
  lookup.error = answer.error;
  const base::Duration ttl = answer.ttl > base::Duration::zero() ? answer.ttl : kNoTtl;
  if (answer.status == DnsStatus::Failed) {
    const base::Duration wait = kSoonest * (1 << std::min(lookup.failures++, 10));
    lookup.due = now + jittered(std::min(wait, kLatestNegative));
    return false;
  }
  lookup.failures = 0;
  if (answer.status == DnsStatus::Ok) {
    lookup.negatives = 0;
    lookup.due = now + std::clamp(jittered(std::min(ttl, kLatest)), kSoonest, kLatest);
    return true;
  }
  lookup.due =
      now + std::clamp(jittered(std::min(ttl, kLatestNegative)), kSoonest, kLatestNegative);
  ++lookup.negatives;
  // A zone being reloaded, or a resolver's bad minute, is no reason to leave everybody.
  if (lookup.held() > 0 && lookup.negatives < 2) return false;
  lookup.negatives = 0;
  return true;
}

void DiscoveryCore::answered(const Query& query, SrvAnswer answer, base::MonoTime now) {
  const auto it = lookups_.find(query);
  if (it == lookups_.end()) return;  // not wanted any more
  Lookup& lookup = it->second;
  if (!take(lookup, answer, now)) return;
  std::erase_if(answer.records, [](const SrvRecord& record) { return record.target == "."; });
  keep_old_addresses(answer.records, lookup.records);
  // The order is drawn anew only with a new set: sources are not to change for nothing.
  if (!same_set(answer.records, lookup.records))
    lookup.records = order_srv(std::move(answer.records), random_);
  combine();
}

void DiscoveryCore::answered(const Query& query, HostAnswer answer, base::MonoTime now) {
  const auto it = lookups_.find(query);
  if (it == lookups_.end()) return;
  if (!take(it->second, answer, now)) return;
  it->second.addresses = std::move(answer.addresses);
  combine();
}

void DiscoveryCore::combine() {
  publishers_.clear();
  sources_.clear();
  const auto add_source = [this](std::string endpoint) {
    if (std::ranges::find(sources_, endpoint) == sources_.end())
      sources_.push_back(std::move(endpoint));
  };
  const auto fixed = [this](const std::string& text, const auto& add) {
    const auto endpoint = parse_endpoint(text);
    if (!endpoint) return;
    if (endpoint->is_literal()) return add(endpoint->to_string());
    const auto it = lookups_.find({Kind::Host, endpoint->host});
    if (it == lookups_.end()) return;
    const auto& addresses = it->second.addresses;
    for (std::size_t i = 0; i < std::min(addresses.size(), kMaxAddresses); ++i)
      add(tcp_endpoint(addresses[i], endpoint->port));
  };
  for (const StaticSource& source : options_.fixed) {
    fixed(source.publish, [this](std::string e) { publishers_.insert(std::move(e)); });
    fixed(source.serve, add_source);
  }
  for (const auto& [query, lookup] : lookups_)
    for (const SrvRecord& record : lookup.records)
      for (std::size_t i = 0; i < std::min(record.addresses.size(), kMaxAddresses); ++i) {
        std::string endpoint = tcp_endpoint(record.addresses[i], record.port);
        if (query.kind == Kind::Publishers)
          publishers_.insert(std::move(endpoint));
        else
          add_source(std::move(endpoint));
      }
}

bool DiscoveryCore::settled() const {
  return std::ranges::all_of(lookups_, [](const auto& item) { return item.second.answered; });
}

std::vector<DiscoveryCore::Info> DiscoveryCore::infos() const {
  std::vector<Info> out;
  for (const auto& [query, lookup] : lookups_)
    out.push_back(
        {query, lookup.answered, lookup.status, lookup.error, lookup.held(), lookup.stale()});
  return out;
}

}  // namespace mirrorbus::net
