// Signed sets of extended attributes at hand while a tree is worked on: looked up once by the
// thread that works, then read by any. In a Spool, so that memory does not grow with what they hold.
#pragma once

#include "proto/xattr_set.hpp"
#include "services/tree/spool.hpp"

#include <functional>
#include <optional>
#include <unordered_map>

namespace mirrorbus::tree {

class XattrSets {
 public:
  using Find = std::function<std::optional<proto::Bytes>(const proto::Hash& id)>;
  // `dir`: as Spool's. `find`: the encoded set, which is known to decode.
  XattrSets(int dir, Find find) : spool_(dir), find_(std::move(find)) {}

  // Makes it known. While nobody calls get(). False if it is not at hand anywhere.
  bool need(const proto::Hash& id);
  // One that was needed: throws std::logic_error otherwise.
  proto::XattrSet get(const proto::Hash& id) const;

 private:
  Spool spool_;
  Find find_;
  std::unordered_map<proto::Hash, Spool::Slot> sets_;
};

}  // namespace mirrorbus::tree
