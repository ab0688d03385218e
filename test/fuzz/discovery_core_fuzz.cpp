// DNS says this and that, late or not at all, while options change.
#include "bus/net/discovery_core.hpp"
#include "bus/net/endpoint.hpp"
#include "test/fuzz/fuzz.hpp"

#include <array>

using namespace mirrorbus;
using net::DnsStatus;

namespace {

net::DiscoveryOptions options(fuzz::Choices& in) {
  const std::uint8_t which = in.byte();
  net::DiscoveryOptions options;
  if (which & 1) options.domains.push_back("example.org");
  if (which & 2) options.domains.push_back("example.net");
  if (which & 4) options.fixed.push_back({"tcp://192.0.2.1:9940", "tcp://relay.example.org:9941"});
  if (which & 8) options.fixed.push_back({"tcp://relay.example.org:9940", ""});
  if (which & 16) options.fixed.push_back({"ipc:///run/x", "tcp://[2001:db8::1]:9941"});
  return options;
}

std::vector<std::string> addresses(fuzz::Choices& in) {
  static constexpr std::array kAddresses = {"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"};
  std::vector<std::string> out;
  for (std::size_t n = in.below(4); n > 0; --n)
    out.emplace_back(kAddresses[in.below(kAddresses.size())]);
  return out;
}

void answer(net::DiscoveryCore& core, const net::DiscoveryCore::Query& query, fuzz::Choices& in,
            base::MonoTime now) {
  const auto status = static_cast<DnsStatus>(in.below(4));
  const base::Duration ttl = std::chrono::seconds(in.flag() ? in.byte() : INT32_MAX);
  if (query.kind == net::DiscoveryCore::Query::Kind::Host)
    return core.answered(query, net::HostAnswer{status, addresses(in), ttl, ""}, now);
  net::SrvAnswer srv{status, {}, ttl, ""};
  for (std::size_t n = in.below(4); n > 0; --n) {
    net::SrvRecord record{in.byte(), in.byte(), in.byte(), in.flag() ? "a.example.org" : ".", {}};
    record.addresses = addresses(in);
    record.resolved = in.flag();
    srv.records.push_back(std::move(record));
  }
  core.answered(query, std::move(srv), now);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  std::uint64_t draws = 0;
  net::DiscoveryCore core(options(in), [&draws](std::uint64_t most) {
    return most == 0 ? 0 : ++draws * 7919 % (most + 1);
  });
  base::MonoTime now{std::chrono::seconds(1)};
  std::vector<net::DiscoveryCore::Query> open;
  while (!in.done()) {
    switch (in.below(5)) {
      case 0: now += std::chrono::seconds(in.byte()); break;
      case 1: now += std::chrono::hours(in.byte()); break;
      case 2:
        for (auto& query : core.due(now)) open.push_back(std::move(query));
        break;
      case 3:
        if (open.empty()) break;
        answer(core, open.back(), in, now);
        open.pop_back();
        break;
      default:
        core.set_options(options(in));
    }
    const auto next = core.next();
    fuzz::require(!next || *next - now <= std::chrono::hours(1),
                  "it is asked again within an hour");
    for (const std::string& endpoint : core.publishers()) {
      const auto parsed = net::parse_endpoint(endpoint);
      fuzz::require(parsed && parsed->is_literal(), "a publisher can be connected to");
    }
    for (const std::string& endpoint : core.sources()) {
      const auto parsed = net::parse_endpoint(endpoint);
      fuzz::require(parsed && parsed->is_literal(), "a source can be asked");
    }
    (void)core.infos();
  }
  return 0;
}
