#include "services/tree/path_filter.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::tree;

TEST_CASE("globs match names, or whole paths", "[path_filter]") {
  CHECK(glob_matches("*.o", "a/b.o"));
  CHECK_FALSE(glob_matches("*.o", "a.o/b"));
  CHECK(glob_matches("a/*.o", "a/b.o"));
  CHECK(glob_matches("/a/*.o", "a/b.o"));
  CHECK_FALSE(glob_matches("a/*.o", "a/b/c.o"));
  CHECK_FALSE(glob_matches("a/*.o", "x/a/b.o"));
  CHECK(glob_matches("**/a/*.o", "x/y/a/b.o"));
  CHECK(glob_matches("**/a/*.o", "a/b.o"));
  CHECK_FALSE(glob_matches("**/a/*.o", "xa/b.o"));
  CHECK(glob_matches("/build", "build"));
  CHECK_FALSE(glob_matches("/build", "x/build"));
  CHECK(glob_matches("\xff*", "d/\xff\xfe"));
}

TEST_CASE("an include takes back what an exclude took", "[path_filter]") {
  const PathFilter filter({"*.o", "tmp"}, {"keep.o"});
  CHECK(filter.excludes("a/b.o"));
  CHECK_FALSE(filter.excludes("a/keep.o"));
  CHECK(filter.excludes("tmp"));
  CHECK_FALSE(filter.excludes("tmp2"));
  CHECK_FALSE(PathFilter().hash());
  CHECK(filter.hash() != PathFilter({"*.o"}, {"tmp", "keep.o"}).hash());
}
