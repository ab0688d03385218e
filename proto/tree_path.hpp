// Paths below a tree's root, and the one order they are sorted in. See node.md.
//
// A path is names joined by '/', without a leading or trailing one; the root is the empty path.
// Tree order compares name by name, which is bytewise with '/' below every other byte: a directory
// comes directly before everything in it.
#pragma once

#include "proto/bytes.hpp"

#include <compare>

namespace mirrorbus::proto {

// What a node's entry may be called: 1 to 255 bytes, without '/' and NUL, not "." and "..", and not
// kWorkFolderName, where a daemon may have to keep its own things inside the tree.
bool valid_entry_name(ByteView name) noexcept;
inline constexpr ByteView kWorkFolderName = ".mirrorbus";

// Names joined by '/', at most kMaxPathSize bytes; the empty path (the root) is not valid here.
bool valid_tree_path(ByteView path) noexcept;

std::strong_ordering compare_paths(ByteView a, ByteView b) noexcept;
inline bool path_less(ByteView a, ByteView b) noexcept { return compare_paths(a, b) < 0; }

struct PathLess {
  using is_transparent = void;
  bool operator()(ByteView a, ByteView b) const noexcept { return path_less(a, b); }
};

// "a/b" for ("a", "b"), "b" for ("", "b").
Bytes join_path(ByteView directory, ByteView name);
// The directory that holds `path`: "a" for "a/b", the root for "a".
ByteView parent_path(ByteView path) noexcept;
ByteView last_name(ByteView path) noexcept;
// `path` is `directory` or lies below it. Everything lies below the root.
bool within(ByteView directory, ByteView path) noexcept;

}  // namespace mirrorbus::proto
