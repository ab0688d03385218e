// The body of mirror.tree.<tree>.update: a new version of a tree exists. See tree_update.md.
#pragma once

#include "proto/tree_version.hpp"
#include "proto/value.hpp"

#include <optional>
#include <string_view>
#include <vector>

namespace mirrorbus::proto {

enum class ChangeOp {
  Add,
  Change,  // content, target or type
  Meta,    // mode, owner, times, flags, xattrs only
  Delete,
  Move,    // a whole directory, or a file: the path it had and the path it has
};
std::string_view to_string(ChangeOp op);

struct Change {
  ChangeOp op = ChangeOp::Add;
  Bytes path;  // Move: where it was
  Bytes to;    // Move: where it is
  bool operator==(const Change&) const = default;
};

struct TreeUpdate {
  VersionRecord record;
  std::optional<PackRef> pack;
  Bytes inline_pack;            // the pack itself, if it is small
  std::vector<Change> changes;  // the first of them
  std::uint64_t changes_total = 0;
  bool changes_more = false;  // `changes` is not all of them
  bool incomplete = false;    // some entries could not be read and are as they were before
  bool operator==(const TreeUpdate&) const = default;
};

inline constexpr std::size_t kMaxInlinePack = 32 * 1024;
inline constexpr std::size_t kMaxUpdateChanges = 256;
// What the changes of one update may take together, so that an update fits an event.
inline constexpr std::size_t kMaxUpdateChangesSize = 24 * 1024;

// Adds `change` if it still fits, else sets changes_more. Counts it either way.
void add_change(TreeUpdate& update, Change change);

Value to_value(const TreeUpdate& update);
Bytes encode_update(const TreeUpdate& update);
Decoded<TreeUpdate> update_of(const Value& body);
Decoded<TreeUpdate> decode_update(ByteView body);

// A path as a body carries it: text where it is UTF-8, else raw bytes.
Value path_value(ByteView path);
Decoded<Bytes> path_of_value(const Value& value);

// A change as the update and the serve verb `changes` carry it: [op, path] or [op, path, to].
Value to_value(const Change& change);
Decoded<Change> decode_change(const Value& value);

}  // namespace mirrorbus::proto
