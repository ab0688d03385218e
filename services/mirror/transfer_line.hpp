// What holds one tree's transfers to its rate: the worker that receives waits here.
#pragma once

#include "services/mirror/transfer_rates.hpp"

#include <atomic>
#include <string>

namespace mirrorbus::mirror {

class TransferLine {
 public:
  // `dscp`, `authorities`: as HttpFetch has them.
  TransferLine(TransferRates& rates, std::size_t line, const base::Clock& clock, int dscp,
               std::string authorities = {})
      : rates_(rates),
        line_(line),
        clock_(clock),
        dscp_(dscp),
        authorities_(std::move(authorities)) {}

  // Returns when more may come. Throws tree::Cancelled when `cancel` is set, or the hours in which
  // something may come are over.
  void took(std::uint64_t bytes, const std::atomic<bool>& cancel);
  bool open() const { return rates_.open(line_, clock_.now()); }
  int dscp() const { return dscp_; }
  const std::string& authorities() const { return authorities_; }

 private:
  TransferRates& rates_;
  const std::size_t line_;
  const base::Clock& clock_;
  const int dscp_;
  const std::string authorities_;
};

}  // namespace mirrorbus::mirror
