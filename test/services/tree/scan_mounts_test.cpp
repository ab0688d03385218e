// Filesystems that come and go below a tree, and a tree whose own comes back under another number.
#include "test/services/tree/scan_fixture.hpp"

#include <atomic>

#include <sys/mount.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using Fixture = test::ScanFixture;

TEST_CASE("what lay in a filesystem that is no longer mounted is not deleted", "[scan]") {
  Fixture f;
  f.settings.one_file_system = false;
  f.write("beside", "x");
  std::filesystem::create_directories(f.at("nested"));
  const std::string at = f.at("nested");
  const auto mount = [&] { return ::mount("none", at.c_str(), "tmpfs", 0, nullptr) == 0; };
  if (::geteuid() != 0 || !mount()) {
    WARN("not tested: mounting is not permitted here");
    return;
  }
  f.write("nested/deep/file", "on the other filesystem");
  CHECK(f.all().problem_count == 0);
  f.check_equal();
  f.commit();
  const auto entry_of = [&](const Bytes& path) {
    const auto row = f.index->latest(proto::parent_path(path));
    const auto node = row ? proto::decode_node(row->node) : proto::Node();
    const auto* entry = node->find(proto::last_name(path));
    return entry ? std::optional(*entry) : std::nullopt;
  };
  const auto nested = entry_of("nested"), file = entry_of("nested/deep/file");
  REQUIRE(file);

  REQUIRE(::umount2(at.c_str(), MNT_DETACH) == 0);
  for (int looks = 0; looks < 2; ++looks) {
    const ScanReport report = looks == 0 ? f.all() : f.some({"", "nested"});
    CHECK(report.kept == 1);
    REQUIRE(report.problem_count == 1);
    CHECK(report.problems[0].kind == ScanProblem::Kind::OtherMount);
    CHECK(report.problems[0].path == "nested");
    CHECK(entry_of("nested/deep/file") == file);
    CHECK(entry_of("nested")->content == nested->content);
  }
  REQUIRE(mount());
  f.write("nested/deep/file", "on another one");
  CHECK(f.all().problem_count == 0);
  f.check_equal();
  REQUIRE(::umount2(at.c_str(), MNT_DETACH) == 0);
  // Then it is meant.
  std::filesystem::remove(at);
  CHECK(f.all().problem_count == 0);
  f.check_equal();
}

TEST_CASE("a filesystem under another device number is not read again", "[scan]") {
  Fixture f;
  f.write("a/f", "x");
  f.write("a/g", "y");
  std::filesystem::create_hard_link(f.at("a/g"), f.at("h"));
  f.set_mtime("a/f", 1000, 0);
  f.set_mtime("a/g", 1000, 0);
  f.all();
  f.commit();
  const std::uint64_t dev = f.index->root()->stat.dev;
  f.pretend_another_device();

  const ScanReport report = f.some({"a"});
  CHECK(report.directories == 2);  // everything was gone through
  CHECK(report.files_hashed == 0);
  f.check_equal();
  CHECK_FALSE(f.index->has_pending());
  CHECK(f.index->directory("a")->stats[0].dev == dev);
}

TEST_CASE("a filesystem under another device number whose root has changed is all looked at", "[scan]") {
  Fixture f;
  f.write("a/deep/f", "x");
  f.write("b/g", "y");
  f.all();
  f.commit();
  f.pretend_another_device();
  f.write("top", "new");
  f.write("a/deep/f", "changed");
  f.write("b/new", "new");
  f.some({"b"});
  f.check_equal();
  f.write("a/later", "and noticed from now on");
  f.some({"a"});
  f.check_equal();
}

TEST_CASE("a look at a filesystem under another device number may be cut off", "[scan]") {
  Fixture f;
  constexpr int kOuter = 1500;  // several commits
  for (int i = 0; i < kOuter; ++i) f.write("d" + std::to_string(i) + "/s/e", "");
  f.all();
  f.commit();
  f.pretend_another_device();
  f.write("top", "new");
  for (int i = 0; i < kOuter; i += 7) f.write("d" + std::to_string(i) + "/s/f", "new");
  std::atomic<bool> stop = false;
  WorkControl control;
  control.cancel = &stop;
  int looks = 0;
  control.progress = [&](const Progress&) { stop = ++looks > 2500; };
  CHECK_THROWS_AS(Scanner(*f.index, *f.store, f.root, f.work->fd(), f.settings).all(false, control),
                  Cancelled);
  REQUIRE(f.index->has_pending());
  f.some({});
  f.check_equal();
}
