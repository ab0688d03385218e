#include "bus/peer/prefix_map.hpp"

#include "proto/topic.hpp"

#include <algorithm>

namespace mirrorbus::peer {

PrefixMap::PrefixMap(std::uint8_t base_segments, std::uint64_t floor, std::size_t max_nodes)
    : base_segments_(base_segments), floor_(floor), max_nodes_(max_nodes) {}
PrefixMap::~PrefixMap() = default;

PrefixMap::Topic& PrefixMap::topic_of(proto::ByteView name) {
  if (last_name_ && *last_name_ == name) return *last_topic_;
  auto [it, fresh] = topics_.try_emplace(std::string(name));
  if (fresh) {
    const std::size_t segments = proto::segment_count(name);
    for (std::size_t depth = base_segments_ + std::size_t{1}; depth <= segments; ++depth) {
      const std::string prefix(proto::topic_prefix(name, depth));
      auto& level = levels_[prefix];
      if (!level) level = std::make_unique<Level>(Level{prefix, 0});
      it->second.levels.push_back(level.get());
    }
  }
  last_name_ = &it->first;
  last_topic_ = &it->second;
  return it->second;
}

const proto::BackPointers& PrefixMap::publish(proto::ByteView name, std::uint64_t seq) {
  if (levels_.size() > max_nodes_) forget_older_half();
  Topic& topic = topic_of(name);
  before_.deltas.clear();
  before_.exact = 0;
  for (Level* level : topic.levels) {
    // From the shortest prefix on: one that was seen was seen with all that are shorter.
    if (level->last > floor_) ++before_.exact;
    before_.deltas.push_back(seq - std::max(level->last, floor_));
    level->last = seq;
  }
  topic.last = seq;
  return before_;
}

// A prefix's last seq is never below that of a longer one, so what goes by seq goes from the
// leaves.
void PrefixMap::forget_older_half() {
  std::vector<std::uint64_t> lasts;
  lasts.reserve(levels_.size());
  for (const auto& [prefix, level] : levels_) lasts.push_back(level->last);
  auto middle = lasts.begin() + static_cast<std::ptrdiff_t>(lasts.size() / 2);
  std::ranges::nth_element(lasts, middle);
  floor_ = std::max(floor_, *middle);
  std::erase_if(topics_, [&](const auto& entry) { return entry.second.last <= floor_; });
  std::erase_if(levels_, [&](const auto& entry) { return entry.second->last <= floor_; });
  last_name_ = nullptr;
  last_topic_ = nullptr;
}

}  // namespace mirrorbus::peer
