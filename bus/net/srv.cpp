#include "bus/net/srv.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <tuple>

namespace mirrorbus::net {

RandomUpTo system_random() {
  return [engine = std::make_shared<std::mt19937_64>(std::random_device()())](std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(0, most)(*engine);
  };
}

std::vector<SrvRecord> order_srv(std::vector<SrvRecord> records, const RandomUpTo& random) {
  // Weight 0 to the front of its priority, so that a draw of 0 can reach it. The rest of the key
  // makes the outcome depend on the set and the draws, not on the order in the answer.
  std::ranges::sort(records, {}, [](const SrvRecord& r) {
    return std::tie(r.priority, r.weight, r.target, r.port);
  });
  for (auto first = records.begin(); first != records.end();) {
    const auto end = std::find_if(first, records.end(), [p = first->priority](const SrvRecord& r) {
      return r.priority != p;
    });
    for (; first != end; ++first) {
      std::uint64_t sum = 0;
      for (auto it = first; it != end; ++it) sum += it->weight;
      const std::uint64_t drawn = random(sum);
      std::uint64_t running = 0;
      auto chosen = std::find_if(first, end, [&running, drawn](const SrvRecord& r) {
        running += r.weight;
        return running >= drawn;
      });
      std::rotate(first, chosen, std::next(chosen));  // keeps the order of the others
    }
  }
  return records;
}

}  // namespace mirrorbus::net
