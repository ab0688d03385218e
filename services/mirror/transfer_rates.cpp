#include "services/mirror/transfer_rates.hpp"

#include <algorithm>
#include <ctime>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kBurst = 100ms;  // that a line may be ahead after a rest
constexpr base::Duration kAtIt = 1s;      // a tree that took something so lately has a share

}  // namespace

std::optional<std::uint64_t> RatePlan::at(unsigned minute) const {
  for (const Hours& each : hours) {
    const bool within = each.from < each.to ? minute >= each.from && minute < each.to
                                            : minute >= each.from || minute < each.to;
    if (within) return each.rate;
  }
  return usual;
}

unsigned local_minute(base::WallTime time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(time));
  std::tm local{};
  ::localtime_r(&seconds, &local);
  return static_cast<unsigned>(local.tm_hour * 60 + local.tm_min);
}

std::size_t TransferRates::add(RatePlan plan, unsigned priority) {
  const std::lock_guard lock(mutex_);
  lines_.push_back({std::move(plan), priority});
  return lines_.size() - 1;
}

base::Duration TransferRates::Bucket::take(std::uint64_t bytes, double rate, base::MonoTime now) {
  free = std::max(free, now - kBurst) + base::from_seconds(static_cast<double>(bytes) / rate);
  return std::max(free - now, base::Duration::zero());
}

bool TransferRates::open(std::size_t line, base::Now now) const {
  const std::lock_guard lock(mutex_);
  const unsigned minute = local_minute(now.wall);
  return site_.at(minute) != 0 && lines_.at(line).plan.at(minute) != 0;
}

std::optional<base::Duration> TransferRates::take(std::size_t number, std::uint64_t bytes,
                                                  base::Now now) {
  const std::lock_guard lock(mutex_);
  Line& line = lines_.at(number);
  const unsigned minute = local_minute(now.wall);
  const auto own = line.plan.at(minute);
  const auto site = site_.at(minute);
  if (own == 0 || site == 0) return std::nullopt;
  line.last = now.mono;
  base::Duration wait{};
  if (own) wait = line.own.take(bytes, static_cast<double>(*own), now.mono);
  if (site) {
    double all = 0;
    for (const Line& each : lines_)
      if (each.last && now.mono - *each.last <= kAtIt) all += each.priority;
    wait = std::max(wait, line.of_site.take(
                              bytes, static_cast<double>(*site) * line.priority / all, now.mono));
  }
  return wait;
}

}  // namespace mirrorbus::mirror
