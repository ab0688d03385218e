#include "bus/peer/sources.hpp"

namespace mirrorbus::peer {

Sources::Sources(base::Loop&, const DiscoverySettings& settings, Subscriber& subscriber, base::Log)
    : subscriber_(subscriber) {
  std::vector<std::string> serve;
  for (const StaticSource& source : settings.fixed) {
    subscriber_.add_publisher(source.publish);
    if (!source.serve.empty()) serve.push_back(source.serve);
  }
  subscriber_.set_serve_endpoints(std::move(serve));
}

Sources::~Sources() = default;

}  // namespace mirrorbus::peer
