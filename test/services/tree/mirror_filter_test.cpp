// A mirror of a part of a tree.
#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/environment.hpp"
#include "test/support/random_tree.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>

#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
namespace fs = std::filesystem;

namespace {

using Sizes = tree::PathFilter::Sizes;

void whole_tree(Mirror& m) {
  for (const char* name : {"top", "a.o", "dir/one", "dir/b.o", "dir/keep.o", "build/x", "build/deep/y",
                           "dir/build/z", "dir/tmp/deep/below/file"})
    m.file(name, name);
  m.file("dir/large", std::string(5000, 'l'));
  m.file("small", "s");
  fs::create_hard_link(m.a() + "/dir/one", m.a() + "/build/linked");
  fs::create_hard_link(m.a() + "/dir/one", m.a() + "/dir/tmp/deep/linked");
  fs::create_hard_link(m.a() + "/dir/one", m.a() + "/other");
}

std::set<std::string> paths(const std::string& top) {
  std::set<std::string> found;
  for (const auto& each : fs::recursive_directory_iterator(top))
    found.insert(each.path().string().substr(top.size() + 1));
  return found;
}

// What of a is not in b; and nothing of b is not in a.
std::set<std::string> left_out(const Mirror& m) {
  auto all = paths(m.a());
  for (const auto& each : paths(m.b())) REQUIRE(all.erase(each) == 1);
  return all;
}

tree::SyncResult good(Mirror& m, const tree::SyncResult& result) {
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(!result.repaired);
  CHECK(result.fidelity.filtered == left_out(m).size());
  CHECK(m.verify().equal());
  return result;
}

}  // namespace

TEST_CASE("a mirror has what its filter lets through, and nothing else", "[mirror][filter]") {
  for (const bool packs : {false, true}) {
    const TempDir tmp;
    Mirror m(tmp.path());
    if (packs) m.make_packs();
    whole_tree(m);
    m.settings.metadata.filter =
        tree::PathFilter({"*.o", "/build", "**/tmp/*"}, {"keep.o"}, Sizes{2, 4000});
    good(m, m.publish_and_sync());
    CHECK(left_out(m) == std::set<std::string>{"a.o", "build", "build/x", "build/deep",
                                               "build/deep/y", "build/linked", "dir/b.o", "dir/large",
                                               "dir/tmp/deep", "dir/tmp/deep/below",
                                               "dir/tmp/deep/below/file", "dir/tmp/deep/linked",
                                               "small"});
    CHECK(m.sync().state == State::Unchanged);
    const std::string rules =
        "--include=keep.o --exclude='*.o' --exclude=/build --exclude='tmp/*' --exclude=/small "
        "--exclude=/dir/large";
    CHECK(oracle(m.a(), m.b(), rules) == "");

    // Changes within what is left out, into it, out of it.
    m.file("build/deep/more/x", "1");
    fs::remove(m.a() + "/build/x");
    m.file("dir/one", "through one of its names");
    fs::rename(m.a() + "/dir/tmp/deep/below", m.a() + "/dir/below");
    fs::rename(m.a() + "/dir/build", m.a() + "/dir/tmp/build");
    m.file("small", "larger now");
    m.file("top", "");
    good(m, m.publish_and_sync());
    CHECK(oracle(m.a(), m.b(), "--include=keep.o --exclude='*.o' --exclude=/build --exclude='tmp/*' "
                               "--exclude=/top --exclude=/dir/large") == "");
    fs::remove_all(m.a() + "/build");
    fs::remove_all(m.a() + "/dir/tmp");
    good(m, m.publish_and_sync());
    m.file("build", "a file now");
    m.file("dir/tmp/again/x", "1");
    good(m, m.publish_and_sync());

    // What is put there although it is left out goes.
    fs::create_directories(m.b() + "/build/local");
    CHECK(!m.verify().equal());
    CHECK(m.repair().state == State::Committed);
    CHECK(m.verify().equal());
    CHECK(!fs::exists(m.b() + "/build"));
  }
}

TEST_CASE("another filter, or none, is followed at once", "[mirror][filter]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  whole_tree(m);
  m.settings.metadata.filter = tree::PathFilter({"dir"}, {});
  good(m, m.publish_and_sync());
  m.settings.metadata.filter = tree::PathFilter({"/build", "*.o"}, {});
  good(m, m.sync());
  m.settings.metadata.filter = tree::PathFilter({"/build/deep", "dir"}, {});
  good(m, m.sync());
  m.file("dir/tmp/deep/below/new", "1");
  m.file("build/deep/new", "1");
  good(m, m.publish_and_sync());
  m.settings.metadata.filter = {};
  const auto result = good(m, m.sync());
  CHECK(result.fidelity.full());
  CHECK(m.differences() == "");
}

TEST_CASE("a filtered mirror follows random trees", "[mirror][filter][random]") {
  const std::uint64_t from = test::number_from("MIRRORBUS_SEED", 1);
  const std::uint64_t seeds = test::number_from("MIRRORBUS_SEEDS", 6);
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    INFO("seed " << seed);
    const TempDir tmp;
    fs::create_directories(tmp / "a");
    RandomTree tree(tmp / "a", seed);
    Mirror m(tmp.path());
    if (seed % 2) m.make_packs();
    // Names end with their number.
    const std::vector<std::string> some = {"n*[137]"};
    m.settings.metadata.filter = tree::PathFilter(some, {}, Sizes{0, 100'000});
    tree.grow(40);
    std::size_t told = 0;
    for (int step = 0; step < 4; ++step) {
      if (step == 2) m.settings.metadata.filter = tree::PathFilter({"n*[24]"}, some);
      const auto result = m.publish_and_sync();
      std::string said = "step " + std::to_string(step) + ": " + describe(result);
      for (; told < tree.log().size(); ++told) said += "\n  " + tree.log()[told];
      INFO(said);
      REQUIRE((result.state == State::Committed || result.state == State::Unchanged));
      REQUIRE(!result.repaired);
      REQUIRE(result.fidelity.filtered == left_out(m).size());
      REQUIRE(m.verify().equal());
      tree.mutate(12);
    }
    m.settings.metadata.filter = {};
    REQUIRE(m.publish_and_sync().state == State::Committed);
    REQUIRE(m.differences() == "");
  }
}
