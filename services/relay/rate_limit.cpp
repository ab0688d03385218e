#include "services/relay/rate_limit.hpp"

#include <algorithm>
#include <chrono>

namespace mirrorbus::relay {

using Seconds = std::chrono::duration<double>;

std::optional<base::Duration> RateLimit::take(const std::string& client, base::MonoTime now) {
  const auto known = by_client_.find(client);
  if (known != by_client_.end()) {
    buckets_.splice(buckets_.begin(), buckets_, known->second);
  } else {
    if (buckets_.size() >= most_) {
      by_client_.erase(buckets_.back().client);
      buckets_.pop_back();
    }
    buckets_.push_front({client, burst_, now});
    by_client_.emplace(client, buckets_.begin());
  }
  Bucket& bucket = buckets_.front();
  bucket.tokens =
      std::min(burst_, bucket.tokens + Seconds(now - bucket.filled).count() * per_second_);
  bucket.filled = now;
  if (bucket.tokens < 1)
    return std::chrono::duration_cast<base::Duration>(Seconds((1 - bucket.tokens) / per_second_));
  bucket.tokens -= 1;
  return std::nullopt;
}

void RateLimit::set(double per_second, double burst) {
  per_second_ = per_second;
  burst_ = burst;
}

}  // namespace mirrorbus::relay
