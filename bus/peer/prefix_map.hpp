// The last seq under every prefix of the topics a publisher uses: what back-pointers are made from.
#pragma once

#include "proto/bytes.hpp"
#include "proto/event.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace mirrorbus::peer {

class PrefixMap {
 public:
  // `base_segments`: those of prefix.env, below which levels count. `floor`: the last seq before
  // this map began; what it does not know may have happened up to there. At most about `max_nodes`
  // prefixes are remembered; the floor rises over what is forgotten.
  PrefixMap(std::uint8_t base_segments, std::uint64_t floor, std::size_t max_nodes = 65'536);
  ~PrefixMap();

  // Takes `topic` as published with `seq` (growing) and gives what points back for each level; exact
  // where this map has seen what it points at. The reference holds until the next call.
  const proto::BackPointers& publish(proto::ByteView topic, std::uint64_t seq);

  std::uint64_t floor() const { return floor_; }

 private:
  struct Level {
    std::string prefix;
    std::uint64_t last = 0;
  };
  struct Topic {
    std::vector<Level*> levels;
    std::uint64_t last = 0;
  };
  Topic& topic_of(proto::ByteView topic);
  void forget_older_half();

  const std::uint8_t base_segments_;
  std::uint64_t floor_;
  const std::size_t max_nodes_;
  std::unordered_map<std::string, std::unique_ptr<Level>> levels_;
  std::unordered_map<std::string, Topic> topics_;
  proto::BackPointers before_;
  // Runs of one topic are common; saves hashing it again.
  const std::string* last_name_ = nullptr;
  Topic* last_topic_ = nullptr;
};

}  // namespace mirrorbus::peer
