// The metric of what a disk has changed in a journal, whoever meets it. Loop thread only.
#pragma once

#include "bus/base/metrics.hpp"

namespace mirrorbus::peer {

inline base::Counter& journal_damaged(base::Registry& registry) {
  return registry.counter("mirrorbus_journal_damaged_total",
                          "Batches not handed out: on disk they are not what was signed.");
}

}  // namespace mirrorbus::peer
