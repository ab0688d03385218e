#include "bus/store/row_filter.hpp"

#include "proto/batch.hpp"
#include "proto/topic.hpp"

#include <algorithm>

namespace mirrorbus::store {

bool row_has_prefix(proto::ByteView row, proto::ByteView prefix) {
  if (prefix.empty()) return true;
  const auto decoded = proto::decode_row(row);
  // A damaged row is handed on: who recomputes its root sees it, and counts it.
  return !decoded || std::ranges::any_of(decoded->items, [&](const proto::BatchRow::Item& item) {
           return proto::is_under(item.topic, prefix);
         });
}

}  // namespace mirrorbus::store
