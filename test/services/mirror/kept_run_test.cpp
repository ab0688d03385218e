#include "services/mirror/kept_run.hpp"

#include "proto/tree_have.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using mirror::kept_run;

TEST_CASE("the number that is drawn once stays, and is no other daemon's", "[kept_run]") {
  const test::TempDir dir;
  const proto::Bytes first = kept_run(dir / "run", base::Log());
  CHECK(first.size() == proto::kRunSize);
  CHECK(kept_run(dir / "run", base::Log()) == first);
  CHECK(kept_run(dir / "another", base::Log()) != first);
}

TEST_CASE("a file that has no number is written anew", "[kept_run]") {
  const test::TempDir dir;
  const std::size_t wrong = GENERATE(0, 1, proto::kRunSize - 1, proto::kRunSize + 1, 100'000);
  CAPTURE(wrong);
  dir.write("run", std::string(wrong, 'x'));
  const proto::Bytes run = kept_run(dir / "run", base::Log());
  CHECK(run.size() == proto::kRunSize);
  CHECK(run != proto::Bytes(proto::kRunSize, 'x'));
  CHECK(kept_run(dir / "run", base::Log()) == run);
}

TEST_CASE("where nothing can be written there is a number all the same", "[kept_run]") {
  const test::TempDir dir;
  CHECK(kept_run(dir / "missing/run", base::Log()).size() == proto::kRunSize);
}
