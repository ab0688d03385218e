// [transfer]: how content comes and goes, for all trees of a daemon.
#pragma once

#include "bus/base/config.hpp"
#include "services/mirror/transfer_rates.hpp"

#include <string>

namespace mirrorbus::mirror {

struct TransferSettings {
  RatePlan rates;
  int dscp = 0;  // of the packets that carry content, 0 to 63
  std::string authorities;  // of https sources; empty: the system's

  static TransferSettings read(const base::ConfigTable& table);
};

// `bandwidth` and `schedule` of [transfer] or a [[tree]].
RatePlan read_rates(const base::ConfigTable& table);

}  // namespace mirrorbus::mirror
