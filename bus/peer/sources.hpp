// Where a subscription connects to: the static list of the configuration, and what discovery finds.
// Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/pool.hpp"
#include "bus/net/discovery.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/subscriber.hpp"

#include <memory>

namespace mirrorbus::peer {

class Sources {
 public:
  // Tells `subscriber`, which outlives this, of every endpoint that comes and goes. `memory_file`:
  // where to keep what DNS said for the next start; empty = nowhere.
  Sources(base::Loop& loop, const DiscoverySettings& settings, Subscriber& subscriber,
          const std::string& memory_file, base::Registry& registry, base::Log log);
  ~Sources();

 private:
  base::WorkerPool writer_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::Discovery> discovery_;
};

}  // namespace mirrorbus::peer
