#include "services/tree/retention.hpp"

#include <algorithm>

namespace mirrorbus::tree {

std::uint64_t oldest_retained(const Index& index, const Retention& retention, base::WallTime now) {
  const auto numbers = index.version_numbers();
  const auto time = static_cast<std::uint64_t>(retention.time.count());
  const std::uint64_t oldest_time = base::to_ns(now) - std::min(base::to_ns(now), time);
  std::uint64_t first = 0, kept = 0, bytes = 0;
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number, ++kept) {
    const auto version = index.version(*number);
    bytes += version->pack ? version->pack->size : 0;
    const bool keep = kept == 0 || !version->announced ||
                      (kept < retention.versions && version->record.time_ns >= oldest_time &&
                       (retention.bytes == 0 || bytes <= retention.bytes));
    if (!keep) break;
    first = *number;
  }
  return first;
}

}  // namespace mirrorbus::tree
