#include "bus/peer/recent_topics.hpp"

#include "proto/limits.hpp"
#include "proto/topic.hpp"

#include <algorithm>
#include <map>

namespace mirrorbus::peer {

RecentTopics::RecentTopics(std::size_t max_topics) : max_topics_(max_topics) {}

void RecentTopics::add(proto::ByteView topic, std::uint64_t seq) {
  if (!latest_ || latest_->first != topic) {
    auto it = lasts_.find(topic);
    if (it == lasts_.end()) {
      if (lasts_.size() >= max_topics_) {
        lasts_.clear();
        forgotten_ = seq - 1;
      }
      it = lasts_.emplace(topic, 0).first;
    }
    latest_ = &*it;
  }
  latest_->second = seq;
}

std::vector<proto::Head::Pair> RecentTopics::since(std::uint64_t since) {
  std::erase_if(lasts_, [&](const auto& topic) { return topic.second <= since; });
  latest_ = nullptr;
  std::map<std::string, std::uint64_t> pairs(lasts_.begin(), lasts_.end());
  if (forgotten_ > since) pairs[""] = forgotten_;
  std::size_t deepest = 0;
  for (const auto& [topic, last] : pairs) deepest = std::max(deepest, proto::segment_count(topic));
  while (pairs.size() > proto::kMaxHeadPairs && deepest > 0) {
    --deepest;
    std::map<std::string, std::uint64_t> cut;
    for (const auto& [prefix, last] : pairs) {
      std::uint64_t& highest = cut[std::string(proto::topic_prefix(prefix, deepest))];
      highest = std::max(highest, last);
    }
    pairs = std::move(cut);
  }
  // A prefix above others must speak for them too: "the last event under it has that seq".
  for (auto& [prefix, last] : pairs)
    for (const auto& [other, other_last] : pairs)
      if (proto::is_under(other, prefix)) last = std::max(last, other_last);
  std::vector<proto::Head::Pair> result;
  for (auto& [prefix, last] : pairs) result.push_back({prefix, last});
  return result;
}

}  // namespace mirrorbus::peer
