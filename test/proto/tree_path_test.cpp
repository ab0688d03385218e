#include "proto/tree_path.hpp"

#include <algorithm>
#include <vector>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

TEST_CASE("names that no node may hold", "[tree_path]") {
  CHECK(valid_entry_name("a"));
  CHECK(valid_entry_name("..."));
  CHECK(valid_entry_name("\xff\xfe\n"));
  CHECK(valid_entry_name(Bytes(255, 'n')));
  for (const Bytes& name : {Bytes(), Bytes("."), Bytes(".."), Bytes("a/b"), Bytes("a\0b", 3),
                            Bytes(256, 'n'), Bytes(".mirrorbus")})
    CHECK_FALSE(valid_entry_name(name));
}

TEST_CASE("paths of names", "[tree_path]") {
  CHECK(valid_tree_path("a/b/c"));
  for (const Bytes& path : {Bytes(), Bytes("/a"), Bytes("a/"), Bytes("a//b"), Bytes("a/../b"),
                            Bytes("a/."), Bytes("a/.mirrorbus/b"), "a" + Bytes(4096, 'x')})
    CHECK_FALSE(valid_tree_path(path));
  CHECK(join_path("", "a") == "a");
  CHECK(join_path("a", "b") == "a/b");
  CHECK(parent_path("a/b/c") == "a/b");
  CHECK(parent_path("a") == "");
  CHECK(last_name("a/b") == "b");
  CHECK(within("", "a"));
  CHECK(within("a", "a"));
  CHECK(within("a", "a/b"));
  CHECK_FALSE(within("a", "ab"));
}

TEST_CASE("a directory directly precedes what it contains", "[tree_path]") {
  std::vector<Bytes> paths{"a\xff", "a-b", "b", "a/z", "a", "", "a/b/c", "a/b", "a\x01", "a/b-"};
  std::ranges::sort(paths, PathLess{});
  CHECK(paths == std::vector<Bytes>{"", "a", "a/b", "a/b/c", "a/b-", "a/z", "a\x01", "a-b", "a\xff",
                                    "b"});
  CHECK_FALSE(path_less("a/b", "a/b"));
}
