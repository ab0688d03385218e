// The metric of everything that is refused, whoever refuses it. Loop thread only.
#pragma once

#include "bus/base/metrics.hpp"
#include "proto/reject.hpp"

namespace mirrorbus::peer {

inline void count_refused(base::Registry& registry, proto::Reject why, std::uint64_t count = 1) {
  registry
      .counter("mirrorbus_refused_total", "What was refused, by reason.",
               {"reason", to_string(why)})
      .add(count);
}

}  // namespace mirrorbus::peer
