// Contents that no node an Index retains names, and since when. Part of an Index and its batches.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <functional>

namespace mirrorbus::tree {

class IndexDb;

class Garbage {
 public:
  explicit Garbage(IndexDb& db) : db_(db) {}

  // The nodes of all retained versions and of the pending layer, some more than once: what they
  // name is none.
  void each_retained_node(const std::function<void(proto::ByteView node)>& visit) const;

  // When this content was first found to be garbage: `now`, if it was not at the last look.
  std::uint64_t since(const proto::Hash& content, std::uint64_t now_ns);
  void forget(const proto::Hash& content);
  // Ends a look: what it did not find is no garbage any more.
  void forget_before(std::uint64_t now_ns);

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
