#include "bus/peer/sources.hpp"

#include "bus/net/discovery_memory.hpp"
#include "bus/net/dns.hpp"

namespace mirrorbus::peer {

Sources::Sources(base::Loop& loop, const DiscoverySettings& settings,
                 const std::string& memory_file, base::Registry& registry, base::Log log)
    : writer_(loop, 1) {
  net::DnsResolver::Options dns;
  dns.servers = settings.resolvers;
  resolver_ = std::make_unique<net::DnsResolver>(loop, std::move(dns));
  net::DiscoveryOptions options;
  options.domains = settings.domains;
  for (const auto& source : settings.fixed) options.fixed.push_back({source.publish, source.serve});
  net::Discovery::Handlers handlers;
  handlers.on_publisher = [this](const std::string& endpoint) {
    for (Subscriber* each : told_) each->add_publisher(endpoint);
  };
  handlers.on_publisher_gone = [this](const std::string& endpoint) {
    for (Subscriber* each : told_) each->remove_publisher(endpoint);
  };
  handlers.on_sources = [this](const std::vector<std::string>& endpoints) {
    for (Subscriber* each : told_) each->set_serve_endpoints(endpoints);
  };
  if (!memory_file.empty())
    handlers.on_held = [this, memory_file, log](std::vector<net::DiscoveryCore::Held> held) {
      writer_.submit([memory_file,
                      held = std::move(held)] { net::write_discovery_memory(memory_file, held); },
                     [log](base::Outcome<void> done) {
                       if (!done) log.warning("what DNS said could not be kept for the next start");
                     });
    };
  discovery_ = std::make_unique<net::Discovery>(loop, *resolver_, std::move(options),
                                                std::move(handlers), registry, log);
  if (!memory_file.empty())
    discovery_->remember(net::read_discovery_memory(memory_file));
  discovery_->start();
}

Sources::~Sources() = default;

void Sources::tell(Subscriber& subscriber) {
  told_.push_back(&subscriber);
  for (const std::string& endpoint : discovery_->core().publishers())
    subscriber.add_publisher(endpoint);
  subscriber.set_serve_endpoints(serve_endpoints());
}

}  // namespace mirrorbus::peer
