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

TEST_CASE("only one directory, in its place", "[path_filter]") {
  const PathFilter filter({"/*"}, {"/pool"});
  CHECK_FALSE(filter.leaves_out("pool"));
  CHECK_FALSE(filter.leaves_out("pool/a/b"));
  CHECK(filter.leaves_out("dists"));
  CHECK(filter.leaves_out("dists/pool"));
}

TEST_CASE("what lies in what is out is out", "[path_filter]") {
  const PathFilter filter({"tmp", "/a/b"}, {});
  CHECK(filter.leaves_out("x/tmp/y/z"));
  CHECK(filter.leaves_out("a/b"));
  CHECK(filter.leaves_out("a/b/c"));
  CHECK_FALSE(filter.leaves_out("a/c"));
  CHECK_FALSE(filter.leaves_out(""));
}

TEST_CASE("sizes are as rsync has them", "[path_filter]") {
  CHECK(parse_file_size("0") == 0u);
  CHECK(parse_file_size("100") == 100u);
  CHECK(parse_file_size("100b") == 100u);
  CHECK(parse_file_size("1.5m") == 1'572'864u);
  CHECK(parse_file_size("10K") == 10'240u);
  CHECK(parse_file_size("10KB") == 10'000u);
  CHECK(parse_file_size("10kib") == 10'240u);
  CHECK(parse_file_size("1.5mb-1") == 1'499'999u);
  CHECK(parse_file_size("2g+1") == 2'147'483'649u);
  for (const char* bad : {"", "x", "-1", "1x", "1kk", "1+2", "1e3", "9999999p"}) {
    INFO(bad);
    CHECK_FALSE(parse_file_size(bad));
  }
  const PathFilter filter({}, {}, {10, 20});
  CHECK_FALSE(filter.empty());
  CHECK(filter.hash().has_value());
  CHECK(filter.excludes_size(9));
  CHECK(filter.excludes_size(21));
  CHECK_FALSE(filter.excludes_size(10));
  CHECK_FALSE(filter.excludes_size(20));
}
