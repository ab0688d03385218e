// How far a consumer has got, per stream, across restarts.
#pragma once

#include "bus/base/sqlite.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace mirrorbus::store {

struct Cursor {
  std::uint64_t epoch = 0;           // the newest entered: nothing older is news any more
  std::uint32_t serial = 0;          // highest accepted in it
  std::uint64_t beat = 0;            // of the last head accepted in it
  std::uint64_t position = 0;        // complete through this seq
  std::uint64_t position_epoch = 0;  // which the event after it belongs to; 0: not known
  std::uint64_t proven = 0;          // not above position: beyond it only a source said so
  bool operator==(const Cursor&) const = default;
};

using Cursors = std::map<proto::Hash, Cursor>;  // by stream id

class CursorStore {
 public:
  explicit CursorStore(const std::string& path);
  Cursors load();
  void save(const Cursors& cursors);  // durable on return, all or none

 private:
  base::Database db_;
};

}  // namespace mirrorbus::store
