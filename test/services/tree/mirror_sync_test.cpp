#include "test/services/tree/mirror_fixture.hpp"

#include "proto/sha256.hpp"
#include "test/support/as_user.hpp"

#include <catch2/catch.hpp>

#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;
using proto::Reject;
using State = tree::SyncResult::State;

namespace {

void set_mtime(const std::string& path, std::int64_t s, long ns = 0) {
  const timespec times[2] = {{0, UTIME_OMIT}, {s, ns}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

}  // namespace

TEST_CASE("a first sync makes the tree at once", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  ScriptedProbe probe;
  bool seen_early = false;
  probe.on_step = [&](tree::Probe::Step step) {
    if (step != tree::Probe::Step::Committed) seen_early |= fs::exists(m.b() + "/top");
  };
  m.settings.probe = &probe;
  SECTION("where there is nothing") {}
  SECTION("where an empty directory is") {
    fs::create_directory(m.b());
  }
  SECTION("named with a slash at its end") {
    m.settings.path += "/";
  }
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.version == 1);
  CHECK(result.tree_hash == m.snapshot().record.tree_hash);
  CHECK(result.bytes_received > 100'000);
  CHECK(result.files_placed == 7);
  CHECK(result.missing_count == 0);
  CHECK_FALSE(seen_early);
  CHECK(m.differences() == "");
  CHECK(m.sync().state == State::Unchanged);
  CHECK(m.verify().equal());
  CHECK(fs::is_empty(tmp / "work/packs"));
}

TEST_CASE("an update asks only for what is new", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const auto nodes = m.source.nodes_sent;
  const auto objects = m.source.objects_sent;
  m.file("dir/deep/er/new", "brand new");
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.source.objects_sent == objects + 1);
  CHECK(m.source.nodes_sent <= nodes + 5);  // tree root and the directories down to it
  CHECK(m.differences() == "");
}

TEST_CASE("moves, copies and links cost no bytes", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  m.file("dir/unchanged", "the same everywhere");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const auto objects = m.source.objects_sent;
  struct stat before;
  REQUIRE(::lstat((m.b() + "/dir/deep/er/three").c_str(), &before) == 0);

  fs::rename(m.a() + "/dir/deep", m.a() + "/moved");
  fs::copy_file(m.a() + "/dir/unchanged", m.a() + "/copy");
  fs::create_hard_link(m.a() + "/dir/two", m.a() + "/two-too");
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.source.objects_sent == objects);
  CHECK(m.differences() == "");
  struct stat after, copy, original;
  REQUIRE(::lstat((m.b() + "/moved/er/three").c_str(), &after) == 0);
  CHECK(after.st_ino == before.st_ino);
  REQUIRE(::lstat((m.b() + "/copy").c_str(), &copy) == 0);
  REQUIRE(::lstat((m.b() + "/dir/unchanged").c_str(), &original) == 0);
  CHECK(copy.st_ino != original.st_ino);
}

TEST_CASE("a directory that is not empty is not taken without a word", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  fs::copy(m.a(), m.b(), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  std::ofstream(m.b() + "/mine") << "precious";
  const auto refused = m.publish_and_sync();
  REQUIRE(refused.state == State::Refused);
  CHECK(refused.refusal->why == Reject::UnsafeTarget);
  CHECK(fs::exists(m.b() + "/mine"));

  SECTION("accepted") {
    const auto result = m.sync(refused.refusal);
    INFO(describe(result));
    CHECK(result.state == State::Committed);
  }
  SECTION("adopted by configuration") {
    m.settings.adopt = true;
    CHECK(m.sync().state == State::Committed);
  }
  CHECK(m.source.objects_sent == 0);  // what was there was used
  CHECK_FALSE(fs::exists(m.b() + "/mine"));
  CHECK(m.differences() == "");
  CHECK(m.sync().state == State::Unchanged);
}

TEST_CASE("a root that is not the one mirrored into is not touched", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("new", "x");
  SECTION("vanished") {
    fs::rename(m.b(), tmp / "away");
  }
  SECTION("another directory in its place: unmounted, say") {
    fs::rename(m.b(), tmp / "away");
    fs::create_directory(m.b());
  }
  const auto refused = m.publish_and_sync();
  REQUIRE(refused.state == State::Refused);
  CHECK(refused.refusal->why == Reject::UnsafeTarget);
  CHECK_FALSE(fs::exists(m.b() + "/new"));
  CHECK(fs::exists(tmp / "away/top"));
  const auto accepted = m.sync(refused.refusal);
  INFO(describe(accepted));
  CHECK(accepted.state == State::Committed);
  CHECK(m.differences() == "");
}

TEST_CASE("versions that do not follow are refused", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const TreeSnapshot first = m.snapshot();
  m.file("new", "x");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  tree::MirrorTree mirror(m.settings, m.index());
  auto version = first.version();
  const auto refusal = [&] {
    auto result = mirror.bring_to({version}, m.source, m.control);
    REQUIRE(result.refusal);
    return result.refusal->why;
  };
  CHECK(refusal() == Reject::VersionRollback);
  version.update.record.number = 2;
  CHECK(refusal() == Reject::Fork);
  version.update.record.tree.octets.fill(1);
  version.update.record.number = 3;
  CHECK(refusal() == Reject::ForeignTree);
  CHECK(m.differences() == "");
}

TEST_CASE("a rollback is a new version with an old tree", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("a/x", "first");
  m.file("y", "stays");
  set_mtime(m.a() + "/a/x", 5);
  set_mtime(m.a() + "/a", 6);
  set_mtime(m.a(), 7);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const auto hash = m.snapshot().record.tree_hash;
  m.file("a/x", "second");
  set_mtime(m.a(), 7);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("a/x", "first");
  set_mtime(m.a() + "/a/x", 5);
  set_mtime(m.a() + "/a", 6);
  set_mtime(m.a(), 7);
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.version == 3);
  CHECK(result.tree_hash == hash);
  CHECK(m.differences() == "");
}

TEST_CASE("too many deletions wait for an operator", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 30; ++i)
    m.file("d" + std::to_string(i % 3) + "/f" + std::to_string(i), "content " + std::to_string(i));
  m.settings.max_delete = {5, 0.1};
  REQUIRE(m.publish_and_sync().state == State::Committed);

  SECTION("what moved, or is equal to something that stays, is not deleted") {
    fs::rename(m.a() + "/d0", m.a() + "/elsewhere");
    CHECK(m.publish_and_sync().state == State::Committed);
  }
  SECTION("refused with names and numbers, then accepted as shown") {
    fs::remove_all(m.a() + "/d0");
    const auto refused = m.publish_and_sync();
    REQUIRE(refused.state == State::Refused);
    CHECK(refused.refusal->why == Reject::MaxDelete);
    CHECK(refused.refusal->deletions == 10);
    CHECK(refused.refusal->limit == 5);
    CHECK(refused.refusal->paths.size() == 10);
    CHECK(refused.refusal->paths.front().starts_with("d0/f"));
    CHECK(fs::exists(m.b() + "/d0/f0"));

    // A newer head is judged anew: what was shown was something else.
    fs::remove_all(m.a() + "/d1");
    const auto again = m.publish();
    (void)again;
    const auto newer = m.sync(refused.refusal);
    REQUIRE(newer.state == State::Refused);
    CHECK(newer.refusal->deletions == 20);
    const auto accepted = m.sync(newer.refusal);
    INFO(describe(accepted));
    CHECK(accepted.state == State::Committed);
  }
  SECTION("a later head that brings the files back needs no accepting") {
    fs::rename(m.a() + "/d0", tmp / "aside");
    CHECK(m.publish_and_sync().state == State::Refused);
    fs::rename(tmp / "aside", m.a() + "/d0");
    CHECK(m.publish_and_sync().state == State::Committed);
  }
  CHECK(m.differences() == "");
}

TEST_CASE("min_free is looked at before anything is written", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  m.settings.min_free_bytes = std::uint64_t{1} << 60;
  const auto refused = m.publish_and_sync();
  REQUIRE(refused.state == State::Refused);
  CHECK(refused.refusal->why == Reject::Unavailable);
  CHECK_FALSE(fs::exists(m.b()));
  CHECK(m.source.objects_sent == 0);
  m.settings.min_free_bytes = 1;
  CHECK(m.sync().state == State::Committed);
}

TEST_CASE("one item that cannot be had does not hold back the rest", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("dir/changed", "cannot be had");
  m.file("top", "nor this");
  m.file("dir/fine", "can be had");
  m.publish();
  const auto one = proto::sha256("cannot be had"), two = proto::sha256("nor this");
  const std::string fault = GENERATE("gone", "damaged", "cut", "silent");
  CAPTURE(fault);
  (fault == "gone"      ? m.source.gone
   : fault == "damaged" ? m.source.damaged
   : fault == "cut"     ? m.source.cut
                        : m.source.silent) = {one, two};
  const std::string reason = fault == "gone"      ? "snapshot: not held"
                             : fault == "damaged" ? "snapshot: what came is not what was signed"
                                                  : "no source sent it";
  auto result = m.sync();
  INFO(describe(result));
  REQUIRE(result.state == State::Incomplete);
  CHECK(result.version == 2);
  REQUIRE(result.missing.size() == 2);
  CHECK(result.missing[0].path == "top");
  CHECK(result.missing[1].path == "dir/changed");
  CHECK(result.missing[0].reason == reason);
  CHECK(m.source.complaints.size() == 2 * m.source.damaged.size());  // asked twice each
  CHECK(fs::exists(m.b() + "/dir/fine"));
  CHECK_FALSE(fs::exists(m.b() + "/dir/changed"));
  CHECK(fs::file_size(m.b() + "/top") == 11);  // the old one stays
  CHECK(m.index().newest()->incomplete);
  CHECK(tree::MirrorTree(m.settings, m.index()).missing().size() == 2);

  SECTION("it is tried again, for the same version") {
    m.source.gone = m.source.damaged = m.source.cut = m.source.silent = {};
    result = m.sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(m.differences() == "");
    CHECK_FALSE(m.index().newest()->incomplete);
    CHECK(tree::MirrorTree(m.settings, m.index()).missing().empty());
  }
  SECTION("and with every later one") {
    m.file("later", "x");
    result = m.publish_and_sync();
    CHECK(result.state == State::Incomplete);
    m.source.gone = m.source.damaged = m.source.cut = m.source.silent = {};
    m.file("later", "y");
    result = m.publish_and_sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(m.differences() == "");
  }
  SECTION("a later version that does not have it any more is complete") {
    fs::remove(m.a() + "/dir/changed");
    fs::remove(m.a() + "/top");
    result = m.publish_and_sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(m.differences() == "");
  }
}

TEST_CASE("names that match `last` are replaced after all others", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (const char* name :
       {"dists/Release", "dists/zzz", "pool/aaa", "pool/zzz", "repomd.xml", "sub/dir/InRelease"})
    m.file(name, "1");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  for (const char* name :
       {"dists/Release", "dists/zzz", "pool/aaa", "pool/zzz", "repomd.xml", "sub/dir/InRelease"})
    m.file(name, std::string("2") + name);
  m.settings.last = {"Release", "repomd.xml", "**/InRelease"};
  ScriptedProbe probe;
  std::vector<std::string> order;
  bool staged = false;
  probe.on_step = [&](tree::Probe::Step step) { staged = step == tree::Probe::Step::Staged; };
  probe.on_change = [&](const std::string& call, const proto::Bytes& name) {
    if (staged && call == "rename") order.push_back(name);
  };
  m.settings.probe = &probe;
  REQUIRE(m.publish_and_sync().state == State::Committed);
  REQUIRE(order.size() == 6);
  std::vector<std::string> last(order.end() - 3, order.end());
  std::ranges::sort(last);
  CHECK(last == std::vector<std::string>{"InRelease", "Release", "repomd.xml"});
}

TEST_CASE("the work folder inside the tree is nobody's entry", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  fs::create_directories(m.b() + "/.mirrorbus");
  m.settings.work = m.b() + "/.mirrorbus";
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  m.file("more", "x");
  fs::remove_all(m.a() + "/dir");
  CHECK(m.publish_and_sync().state == State::Committed);
  CHECK(m.verify().equal());
  CHECK(oracle(m.a(), m.b(), "--exclude=/.mirrorbus") == "");
}
