// Where a subscription connects to: the static list of the configuration, and what discovery finds.
// Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/subscriber.hpp"

namespace mirrorbus::peer {

class Sources {
 public:
  // Tells `subscriber`, which outlives this, of every endpoint that comes and goes.
  Sources(base::Loop& loop, const DiscoverySettings& settings, Subscriber& subscriber, base::Log log);
  ~Sources();

 private:
  Subscriber& subscriber_;
};

}  // namespace mirrorbus::peer
