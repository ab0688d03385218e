// Two paths, split by a line end: names, parents, and their order.
#include "proto/limits.hpp"
#include "proto/tree_path.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size), a = bytes.substr(0, bytes.find('\n'));
  const proto::ByteView b = bytes.substr(std::min(bytes.size(), a.size() + 1));
  fuzz::require((proto::compare_paths(a, b) < 0) == (proto::compare_paths(b, a) > 0),
                "an order has two directions");
  fuzz::require((proto::compare_paths(a, b) == 0) == (a == b), "only what is the same is equal");
  for (const proto::ByteView path : {a, b}) {
    if (!proto::valid_tree_path(path)) continue;
    const proto::ByteView parent = proto::parent_path(path), name = proto::last_name(path);
    fuzz::require(proto::valid_entry_name(name), "a valid path ends in a valid name");
    fuzz::require(proto::join_path(parent, name) == path, "parent and name are the path");
    fuzz::require(parent.empty() || proto::valid_tree_path(parent), "a parent is a path");
    fuzz::require(proto::within(parent, path) && proto::path_less(parent, path),
                  "a directory comes before what is in it");
    fuzz::require(("/" + proto::Bytes(path) + "/").find("/../") == proto::Bytes::npos,
                  "no path leads upwards");
  }
  if (proto::valid_tree_path(a) && proto::valid_tree_path(b) && proto::within(a, b))
    fuzz::require(!proto::path_less(b, a), "what is within a directory does not come before it");
  return 0;
}
