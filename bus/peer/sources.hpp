// Where a subscription connects to, and who else may be asked: the static list of the configuration,
// and what discovery finds. One for all in a process who want to know, so that DNS is asked once.
// Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/pool.hpp"
#include "bus/net/discovery.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/subscriber.hpp"

#include <memory>
#include <string>
#include <vector>

namespace mirrorbus::peer {

class Sources {
 public:
  // `memory_file`: where to keep what DNS said for the next start; empty = nowhere.
  Sources(base::Loop& loop, const DiscoverySettings& settings, const std::string& memory_file,
          base::Registry& registry, base::Log log);
  ~Sources();

  // Tells `subscriber`, which outlives this, of every endpoint there is, that comes and that goes.
  void tell(Subscriber& subscriber);
  // For who asks by himself: the serve sockets known now, first choice first; and whether DNS has
  // said all that it will, or has failed to.
  const std::vector<std::string>& serve_endpoints() const { return discovery_->core().sources(); }
  bool settled() const { return discovery_->core().settled(); }

 private:
  std::vector<Subscriber*> told_;
  base::WorkerPool writer_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::Discovery> discovery_;
};

}  // namespace mirrorbus::peer
