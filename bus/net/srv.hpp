// SRV records and the order in which to try them (RFC 2782).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mirrorbus::net {

struct SrvRecord {
  std::uint16_t priority = 0;
  std::uint16_t weight = 0;
  std::uint16_t port = 0;
  std::string target;  // "." : the service is decidedly not available
  // In numbers; empty if the target has none, or could not be resolved.
  std::vector<std::string> addresses;
  bool resolved = true;  // false: asking for the addresses failed, which says nothing about them

  bool operator==(const SrvRecord&) const = default;
};

// A number from 0 to `most`, both included, all equally likely.
using RandomUpTo = std::function<std::uint64_t(std::uint64_t most)>;
// From the system's randomness.
RandomUpTo system_random();

// Lower priorities first; among equals the next is drawn with a probability in proportion to its
// weight, those of weight 0 having a very small one.
std::vector<SrvRecord> order_srv(std::vector<SrvRecord> records, const RandomUpTo& random);

}  // namespace mirrorbus::net
