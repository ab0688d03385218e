// Which topics had durable events lately, and the last of each: what a head says of them.
#pragma once

#include "proto/bytes.hpp"
#include "proto/head.hpp"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace mirrorbus::peer {

class RecentTopics {
 public:
  // Of more topics than `max_topics` none is remembered: then a head names the empty prefix.
  explicit RecentTopics(std::size_t max_topics = 65'536);

  // An event with `seq` (growing) is durable.
  void add(proto::ByteView topic, std::uint64_t seq);

  // The pairs of a head for (since, last], `last` being that of the latest event: one per topic, or
  // cut to fewer segments until they fit. Forgets what was before `since`, which only grows.
  std::vector<proto::Head::Pair> since(std::uint64_t since);

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Lasts = std::unordered_map<std::string, std::uint64_t, Hash, std::equal_to<>>;

  const std::size_t max_topics_;
  Lasts lasts_;
  Lasts::value_type* latest_ = nullptr;  // runs of one topic are common
  std::uint64_t forgotten_ = 0;          // whose events these were is not known up to here
};

}  // namespace mirrorbus::peer
