// How much each client may send: a token bucket for each. So many are kept; those that were not
// asked for longest are forgotten first, and begin anew with a full one. No thread of its own.
#pragma once

#include "bus/base/clock.hpp"

#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>

namespace mirrorbus::relay {

class RateLimit {
 public:
  static constexpr std::size_t kMostClients = 10'000;

  // `per_second` and `burst` (what may come at once) are at least 1.
  RateLimit(double per_second, double burst, std::size_t most_clients = kMostClients)
      : per_second_(per_second), burst_(burst), most_(most_clients) {}

  // One more from this client: nothing = it may, else how long it must wait.
  std::optional<base::Duration> take(const std::string& client, base::MonoTime now);
  // Buckets keep what is in them.
  void set(double per_second, double burst);
  std::size_t clients() const { return buckets_.size(); }

 private:
  struct Bucket {
    std::string client;
    double tokens;
    base::MonoTime filled;
  };
  double per_second_, burst_;
  std::size_t most_;
  std::list<Bucket> buckets_;  // the one asked for last is the first
  std::unordered_map<std::string, std::list<Bucket>::iterator> by_client_;
};

}  // namespace mirrorbus::relay
