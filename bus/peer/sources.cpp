#include "bus/peer/sources.hpp"

#include "bus/net/dns.hpp"

namespace mirrorbus::peer {

Sources::Sources(base::Loop& loop, const DiscoverySettings& settings, Subscriber& subscriber,
                 base::Registry& registry, base::Log log) {
  net::DnsResolver::Options dns;
  dns.servers = settings.resolvers;
  resolver_ = std::make_unique<net::DnsResolver>(loop, std::move(dns));
  net::DiscoveryOptions options;
  options.domains = settings.domains;
  for (const auto& source : settings.fixed) options.fixed.push_back({source.publish, source.serve});
  net::Discovery::Handlers handlers;
  handlers.on_publisher = [&subscriber](const std::string& endpoint) {
    subscriber.add_publisher(endpoint);
  };
  handlers.on_publisher_gone = [&subscriber](const std::string& endpoint) {
    subscriber.remove_publisher(endpoint);
  };
  handlers.on_sources = [&subscriber](const std::vector<std::string>& endpoints) {
    subscriber.set_serve_endpoints(endpoints);
  };
  discovery_ = std::make_unique<net::Discovery>(loop, *resolver_, std::move(options),
                                                std::move(handlers), registry, log);
  discovery_->start();
}

Sources::~Sources() = default;

}  // namespace mirrorbus::peer
