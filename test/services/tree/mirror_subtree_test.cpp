// A mirror of one directory of a tree, under a path of its own.
#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/random_tree.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
namespace fs = std::filesystem;

namespace {

struct PartMirror : Mirror {
  PartMirror(const std::string& top, const std::string& subtree, bool snapshot) : Mirror(top) {
    settings.subtree = subtree;
    settings.snapshot = snapshot;
    settings.metadata.filter = tree::PathFilter({}, {}, {}, subtree);
    fs::create_directories(a() + "/" + subtree);
  }
  std::string differences() const { return oracle(a() + "/" + settings.subtree, b()); }
  // What there is of the tree, the directories that lead there aside.
  std::vector<std::string> all() const {
    const fs::path root =
        settings.snapshot ? fs::canonical(b() + "/../..") : fs::path(settings.root());
    std::vector<std::string> paths;
    for (const auto& each : fs::recursive_directory_iterator(root))
      paths.push_back(fs::relative(each.path(), root));
    std::ranges::sort(paths);
    return paths;
  }
};

}  // namespace

TEST_CASE("a filter of one directory leaves in it and what leads to it", "[mirror][subtree]") {
  const tree::PathFilter filter({"*.iso"}, {}, {}, "pool/main");
  CHECK_FALSE(filter.leaves_out("pool"));
  CHECK_FALSE(filter.leaves_out("pool/main"));
  CHECK_FALSE(filter.leaves_out("pool/main/a/b"));
  CHECK(filter.leaves_out("pool/main/a/b.iso"));
  CHECK(filter.leaves_out("pool/mainly"));
  CHECK(filter.leaves_out("pool/x/main"));
  CHECK(filter.leaves_out("dists"));
  CHECK(filter.leaves_out("pool/main.txt"));
  CHECK_FALSE(filter.empty());
  CHECK(filter.hash() != tree::PathFilter({"*.iso"}, {}).hash());
  CHECK(filter.hash() != tree::PathFilter({"*.iso"}, {}, {}, "pool/mainx").hash());
}

TEST_CASE("too many deletions are those of what this mirror has", "[mirror][subtree]") {
  const TempDir tmp;
  PartMirror m(tmp.path(), "part", false);
  m.settings.metadata.filter = tree::PathFilter({"*.iso"}, {}, {.min = 0, .max = 5000}, "part");
  const auto fill = [&m](const std::string& folder, const std::string& ending, int files) {
    for (int i = 0; i < files; ++i)
      m.file(folder + "/" + std::to_string(i) + ending, folder + ending + std::to_string(i));
  };
  fill("part/d", "", 10);
  fill("part/e", "", 10);
  fill("part", ".iso", 100);
  fill("other", "", 300);
  REQUIRE(m.publish_and_sync().state == State::Committed);

  m.settings.max_delete = {3, 0.10};
  SECTION("nothing of what it has not") {
    fs::remove_all(m.a() + "/other");
    for (int i = 0; i < 100; ++i) fs::remove(m.a() + "/part/" + std::to_string(i) + ".iso");
    CHECK(m.publish_and_sync().state == State::Committed);
    CHECK(m.differences() == "");
  }
  SECTION("and of as many as it has") {
    SECTION("removed") { fs::remove_all(m.a() + "/part/d"); }
    SECTION("moved to where it has nothing") { fs::rename(m.a() + "/part/d", m.a() + "/d"); }
    SECTION("called what it leaves out") {
      for (int i = 0; i < 10; ++i) {
        const std::string name = m.a() + "/part/d/" + std::to_string(i);
        fs::rename(name, name + ".iso");
      }
    }
    SECTION("larger than what it takes") {
      for (int i = 0; i < 10; ++i) m.file("part/d/" + std::to_string(i), std::string(6000, 'l'));
    }
    const auto refused = m.publish_and_sync();
    REQUIRE(refused.state == State::Refused);
    CHECK(refused.refusal->why == proto::Reject::MaxDelete);
    CHECK(refused.refusal->deletions == 10);
    CHECK(refused.refusal->limit == 3);
    CHECK(refused.refusal->text.find("delete 10 of 20 files") != std::string::npos);
    m.settings.max_delete = {3, 0.5};
    CHECK(m.sync().state == State::Committed);
  }
  SECTION("what it still has elsewhere is not deleted") {
    fs::rename(m.a() + "/part/d", m.a() + "/part/moved");
    CHECK(m.publish_and_sync().state == State::Committed);
  }
}

TEST_CASE("one directory of a tree is mirrored under a path of its own", "[mirror][subtree]") {
  const bool snapshot = GENERATE(false, true);
  const TempDir tmp;
  PartMirror m(tmp.path(), "pool/main", snapshot);
  m.file("pool/main/file", "one");
  m.file("pool/main/linked", "linked");
  fs::create_hard_link(m.a() + "/pool/main/linked", m.a() + "/outside");
  fs::create_hard_link(m.a() + "/pool/main/linked", m.a() + "/pool/main/again");
  m.file("pool/other/large", std::string(300'000, 'l'));
  m.file("dists/index", "index");
  auto result = m.publish_and_sync();
  INFO(describe(result));
  REQUIRE(result.state == State::Committed);
  CHECK(m.differences() == "");
  CHECK(m.all() == std::vector<std::string>{"pool", "pool/main", "pool/main/again",
                                            "pool/main/file", "pool/main/linked"});
  CHECK(result.fidelity.filtered > 0);
  CHECK(m.source.bytes_received() < 100'000);
  CHECK(m.verify().equal());
  struct stat st;
  REQUIRE(::stat((m.b() + "/linked").c_str(), &st) == 0);
  CHECK(st.st_nlink == 2);

  m.file("pool/main/new/file", "new");
  m.file("dists/index", "other");
  fs::remove(m.a() + "/pool/main/file");
  result = m.publish_and_sync();
  INFO(describe(result));
  REQUIRE(result.state == State::Committed);
  CHECK(result.tree_hash == m.snapshot().record.tree_hash);
  CHECK(m.differences() == "");
  m.settle();
  CHECK(m.differences() == "");

  // Nothing of it is there for a while.
  fs::rename(m.a() + "/pool", m.a() + "/away");
  CHECK(m.publish_and_sync().state == State::Committed);
  CHECK(fs::is_symlink(fs::symlink_status(m.b())));
  CHECK_FALSE(fs::exists(m.b()));
  fs::rename(m.a() + "/away", m.a() + "/pool");
  CHECK(m.publish_and_sync().state == State::Committed);
  CHECK(m.differences() == "");
  CHECK(m.verify().equal());
}

TEST_CASE("one directory of a random tree is followed", "[mirror][subtree][random]") {
  const bool snapshot = GENERATE(false, true);
  const std::uint64_t seed = GENERATE(1, 2, 3, 4);
  const TempDir tmp;
  PartMirror m(tmp.path(), "deep/part", snapshot);
  if (seed % 2 == 0) m.make_packs();
  RandomTree part(m.a() + "/deep/part", seed);
  fs::create_directory(m.a() + "/rest");
  RandomTree rest(m.a() + "/rest", seed + 100);
  part.grow(20);
  rest.grow(20);
  for (int version = 0; version < 4; ++version) {
    const auto result = m.publish_and_sync();
    INFO("seed " << seed << " version " << version << " " << describe(result));
    CHECK((result.state == State::Committed || result.state == State::Unchanged));
    CHECK(m.differences() == "");
    CHECK(m.verify().equal());
    part.mutate(8);
    rest.mutate(8);
  }
}

TEST_CASE("a directory in the link's place is refused", "[mirror][subtree]") {
  const TempDir tmp;
  PartMirror m(tmp.path(), "pool", false);
  m.file("pool/file", "one");
  fs::create_directory(m.b());
  const auto result = m.publish_and_sync();
  REQUIRE(result.state == State::Refused);
  CHECK_THAT(result.refusal->text, Catch::Contains("is no symbolic link"));
}
