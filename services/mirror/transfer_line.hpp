// What holds one tree's transfers to its rate: the worker that receives waits here.
#pragma once

#include "services/mirror/transfer_rates.hpp"

#include <atomic>

namespace mirrorbus::mirror {

class TransferLine {
 public:
  TransferLine(TransferRates& rates, std::size_t line, const base::Clock& clock, int dscp)
      : rates_(rates), line_(line), clock_(clock), dscp_(dscp) {}

  // Returns when more may come. Throws tree::Cancelled when `cancel` is set, or the hours in which
  // something may come are over.
  void took(std::uint64_t bytes, const std::atomic<bool>& cancel);
  bool open() const { return rates_.open(line_, clock_.now()); }
  int dscp() const { return dscp_; }

 private:
  TransferRates& rates_;
  const std::size_t line_;
  const base::Clock& clock_;
  const int dscp_;
};

}  // namespace mirrorbus::mirror
