// A mirror whose versions lie beside each other: whatever comes later, each stays what it was.
#include "proto/sha256.hpp"
#include "services/tree/origin_content.hpp"
#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/as_user.hpp"
#include "test/support/environment.hpp"
#include "test/support/random_tree.hpp"

#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using namespace std::chrono_literals;
using State = tree::SyncResult::State;
namespace fs = std::filesystem;

namespace {

struct Snapshotted : Mirror {
  explicit Snapshotted(const std::string& top) : Mirror(top), top_(top) {
    settings.snapshot = true;
    fs::create_directories(a());
  }
  std::string held(const std::string& name) const { return settings.work + "/versions/" + name; }
  std::vector<std::string> in_folder() const {
    std::vector<std::string> names;
    for (const auto& each : fs::directory_iterator(settings.work + "/versions"))
      names.push_back(each.path().filename());
    std::ranges::sort(names);
    return names;
  }
  std::string shown() const { return fs::read_symlink(b()).filename(); }
  struct stat of(const std::string& path) const {
    struct stat st;
    if (::lstat(path.c_str(), &st) != 0) base::throw_errno("stat " + path);
    return st;
  }
  // Later than the grace period after anything that happens in a test.
  static base::WallTime later() { return base::WallTime(std::chrono::system_clock::now()) + 2h; }
  static tree::Snapshots::Keep keep(std::uint64_t versions) {
    tree::Retention retain;
    retain.versions = versions;
    retain.time = std::chrono::hours(24 * 36500);  // a test's versions are dated as it likes
    return {retain, 1h};
  }
  // As a daemon after a version.
  void forget(std::uint64_t versions) {
    index().forget_versions_below(
        tree::oldest_retained(index(), keep(versions).retain, later()));
  }

 private:
  std::string top_;
};

// Throws with everything there is to know.
void follow(const std::string& top, std::uint64_t seed, bool packs) {
  Snapshotted mirror(top);
  RandomTree tree(top + "/a", seed);
  if (packs) mirror.make_packs();
  tree.grow(30);
  for (int version = 1; version <= 4; ++version) {
    const auto result = mirror.publish_and_sync();
    std::string wrong;
    if (result.state != State::Committed && result.state != State::Unchanged)
      wrong = describe(result);
    if (result.repaired || result.edits.count() > 0) wrong += " repaired: " + describe(result);
    copy_tree(top + "/a", top + "/copy" + std::to_string(version));
    for (const tree::Snapshot& each : mirror.tree().snapshots())
      wrong += oracle(top + "/copy" + std::to_string(each.number), mirror.held(each.name));
    wrong += mirror.differences();
    if (!mirror.verify().equal()) wrong += " verify finds differences";
    if (mirror.in_folder().size() != mirror.tree().snapshots().size())
      wrong += " there is more than the versions";
    if (!wrong.empty()) {
      std::string text =
          "seed " + std::to_string(seed) + " version " + std::to_string(version) + ": " + wrong;
      for (const std::string& change : tree.log()) text += "\n  " + change;
      throw std::runtime_error(text);
    }
    tree.mutate(version == 1 ? 3 : 12);
  }
}

}  // namespace

TEST_CASE("versions beside each other stay what they were", "[mirror][snapshot][random]") {
  const std::uint64_t first = number_from("MIRRORBUS_SEED", 1);
  for (std::uint64_t seed = first; seed < first + number_from("MIRRORBUS_SEEDS", 6); ++seed) {
    const TempDir tmp;
    CHECK_NOTHROW(follow(tmp.path(), seed, seed % 2 == 0));
  }
}

TEST_CASE("a plain user's versions stay what they were", "[mirror][snapshot][random]") {
  const std::uint64_t first = number_from("MIRRORBUS_SEED", 1);
  for (std::uint64_t seed = first; seed < first + number_from("MIRRORBUS_SEEDS", 4); ++seed) {
    const TempDir tmp;
    fs::permissions(tmp.path(), fs::perms::all);
    CHECK(as_user(kPlainUser, [&] { follow(tmp.path(), seed, seed % 2 == 0); }) == "");
  }
}

TEST_CASE("what did not change is one file in all versions", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("same", "same");
  m.file("moves/along", std::string(10'000, 'm'));
  m.file("content", "one");
  m.file("metadata", "metadata");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("content", "two!");
  REQUIRE(::chmod((m.a() + "/metadata").c_str(), 0600) == 0);
  fs::rename(m.a() + "/moves", m.a() + "/moved");
  const std::uint64_t before = m.source.bytes_received();
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  REQUIRE(result.state == State::Committed);
  CHECK(m.differences() == "");
  CHECK(fs::read_symlink(m.b()) == "work/versions/2");
  const auto ino = [&](const std::string& path) { return m.of(m.held(path)).st_ino; };
  CHECK(ino("1/same") == ino("2/same"));
  CHECK(ino("1/moves/along") == ino("2/moved/along"));
  CHECK(ino("1/content") != ino("2/content"));
  CHECK(ino("1/metadata") != ino("2/metadata"));
  CHECK((m.of(m.held("1/metadata")).st_mode & 07777) == 0644);
  CHECK((m.of(m.held("2/metadata")).st_mode & 07777) == 0600);
  CHECK(m.source.bytes_received() - before < 5000);  // nodes, and four bytes
}

TEST_CASE("three versions take the room of one and what changed", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  constexpr std::uint64_t kEach = 200'000;
  for (int i = 0; i < 50; ++i)
    m.file(fmt::format("d{}/f{}", i % 5, i), std::string(kEach, static_cast<char>('a' + i % 20)));
  REQUIRE(m.publish_and_sync().state == State::Committed);
  for (int version = 2; version <= 3; ++version) {
    m.file("d1/f1", std::string(kEach, static_cast<char>('0' + version)));
    REQUIRE(m.publish_and_sync().state == State::Committed);
  }
  std::uint64_t blocks = 0;
  std::set<ino_t> met;
  for (const auto& each : fs::recursive_directory_iterator(m.settings.work + "/versions"))
    if (const auto st = m.of(each.path()); met.insert(st.st_ino).second)
      blocks += static_cast<std::uint64_t>(st.st_blocks) * 512;
  CHECK(blocks > 52 * kEach);
  CHECK(blocks < 53 * kEach + 52 * 4096 + 20 * 4096);
}

TEST_CASE("a repair replaces, and leaves the other versions alone", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("content", "content");
  m.file("mode", "mode");
  m.file("other", "1");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("other", "2");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  REQUIRE(::chmod((m.held("2/mode")).c_str(), 0600) == 0);  // of both: it is one file
  std::ofstream(m.held("2/content")) << "CONTENT";
  const auto mode_of_1 = m.of(m.held("1/mode"));
  CHECK(m.verify().count == 2);
  const auto result = m.repair();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.differences() == "");
  CHECK(m.shown() == "2");
  const auto found = m.verify();
  CHECK(found.count == 0);
  REQUIRE(found.older.count == 1);
  CHECK(found.older.rotten[0].path == m.held("1/content"));
  const auto now = m.of(m.held("1/mode"));
  CHECK(now.st_ino == mode_of_1.st_ino);
  CHECK((now.st_mode & 07777) == 0600);
  CHECK(m.of(m.held("2/mode")).st_ino != now.st_ino);
  CHECK(m.of(m.held("2/content")).st_ino != m.of(m.held("1/content")).st_ino);
}

namespace {

void spoil(const std::string& path) {
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "spoilt";
}

// Three versions, of which copies are kept beside the mirror; nothing is wrong yet.
struct Rotting : Snapshotted {
  explicit Rotting(const std::string& top) : Snapshotted(top), copies(top + "/copy") {
    file("dir/two versions", std::string(5000, '1'));
    file("dir/goes", "goes with its name");
    file("group/a", "of two names");
    fs::create_hard_link(a() + "/group/a", a() + "/group/b");
    file("renamed/here", std::string(20'000, 'r'));
    file("mode", "another mode later");
    file("shared", std::string(3000, 's'));
    file("large", std::string(9 << 20, 'l'));
    fs::permissions(a() + "/group", fs::perms(0555));
    next();
    fs::rename(a() + "/renamed/here", a() + "/renamed/there");
    fs::permissions(a() + "/mode", fs::perms(0640));
    fs::permissions(a() + "/group", fs::perms(0755));
    file("group/a", "again of two");
    fs::permissions(a() + "/group", fs::perms(0555));
    fs::remove(a() + "/large");
    next();
    file("dir/two versions", std::string(6000, '2'));
    fs::remove(a() + "/dir/goes");
    fs::remove_all(a() + "/renamed");
    next();
  }
  const std::string copies;

  void next() {
    publish(true);
    if (const auto result = sync(); result.state != State::Committed)
      throw std::runtime_error(describe(result));
    copy_tree(a(), copies + std::to_string(++made_));
  }
  // What the versions have that they should not.
  std::string wrong() const {
    std::string all;
    for (int each = 1; each <= made_; ++each)
      all += oracle(copies + std::to_string(each), held(std::to_string(each)));
    return all;
  }

 private:
  int made_ = 0;
};

}  // namespace

TEST_CASE("what has rotted in older versions is had again", "[mirror][snapshot][verify]") {
  const TempDir tmp;
  fs::permissions(tmp.path(), fs::perms::all);
  const auto mends = [&] {
    Rotting m(tmp.path());
    if (m.wrong() != "") throw std::runtime_error("before: " + m.wrong());
    spoil(m.held("2/dir/two versions"));  // of the first, too
    spoil(m.held("1/renamed/here"));      // which is also 2/renamed/there
    spoil(m.held("1/large"));
    for (const char* path : {"1/group/a", "1/mode", "3/shared"}) {
      fs::permissions(m.held(path), fs::perms(0600), fs::perm_options::add);
      spoil(m.held(path));
    }
    const auto dated = fs::last_write_time(m.held("2/dir"));
    fs::remove(m.held("2/dir/goes"));
    fs::last_write_time(m.held("2/dir"), dated);  // metadata are not looked at
    const auto found = m.verify();
    std::string said;
    if (found.count != 1) said += fmt::format("{} in the newest ", found.count);
    // two versions, goes, both of the group, both of the renamed, mode, large
    if (found.older.count != 8) said += fmt::format("{} in older ones ", found.older.count);
    const auto repaired = m.repair();
    if (repaired.state != State::Committed) said += describe(repaired);
    if (!m.tree().mend_older(m.source)) said += "something is left ";
    if (!m.verify().equal()) said += "something is found ";
    const auto ino = [&](const std::string& path) { return m.of(m.held(path)).st_ino; };
    if (ino("1/dir/two versions") != ino("2/dir/two versions")) said += "two for one ";
    if (ino("1/renamed/here") != ino("2/renamed/there")) said += "two for one, renamed ";
    for (const auto& each : fs::directory_iterator(m.settings.work + "/staging"))
      if (each.path().filename() != "boot") said += each.path().string() + " is left ";
    if (const std::string all = said + m.wrong(); !all.empty()) throw std::runtime_error(all);
  };
  SECTION("as root, or whoever runs this") { CHECK_NOTHROW(mends()); }
  SECTION("as a plain user") { CHECK(as_user(kPlainUser, mends) == ""); }
}

TEST_CASE("of older versions what cannot be had is left", "[mirror][snapshot][verify]") {
  const TempDir tmp;
  Rotting m(tmp.path());
  spoil(m.held("1/dir/two versions"));
  spoil(m.held("1/mode"));
  SECTION("nobody has it") { m.source.gone.insert(proto::sha256(std::string(5000, '1'))); }
  SECTION("what comes is damaged") { m.source.damaged.insert(proto::sha256(std::string(5000, '1'))); }
  SECTION("the source fails") { m.source.fail_after_bytes = 0; }
  CHECK_FALSE(m.tree().mend_older(m.source));
  const auto found = m.verify();
  REQUIRE(found.older.count == 1);  // the other was beside
  CHECK(found.older.rotten[0].path == m.held("2/dir/two versions"));
  m.source.gone.clear();
  m.source.damaged.clear();
  CHECK(m.tree().mend_older(m.source));
  CHECK(m.verify().equal());
  CHECK(m.wrong() == "");
}

TEST_CASE("what has rotted in an older version is named", "[mirror][snapshot][verify]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.settings.metadata.filter = tree::PathFilter({"*.out"}, {});
  m.file("dir/file", std::string(5000, '1'));
  m.file("dir/left.out", "left out");
  m.file("shared", std::string(3000, 's'));
  m.file("dir/goes", "goes");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("dir/file", std::string(6000, '2'));
  fs::remove(m.a() + "/dir/goes");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("new", "3");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  std::uint64_t bytes = 0, total = 0;
  const auto verify = [&] {
    tree::WorkControl control;
    control.progress = [&](const tree::Progress& now) {
      CHECK(now.bytes >= bytes);
      CHECK(now.bytes <= now.bytes_total);
      bytes = now.bytes;
      total = now.bytes_total;
    };
    bytes = 0;
    return m.tree().verify(control);
  };
  auto found = verify();
  CHECK(found.equal());
  CHECK(found.older.files == 2);  // of the first: dir/file and dir/goes
  CHECK(found.older.bytes == 5004);

  spoil(m.held("1") + "/dir/file");
  fs::remove(m.held("1") + "/dir/goes");
  found = verify();
  CHECK(found.count == 0);
  REQUIRE(found.older.count == 2);
  std::ranges::sort(found.older.rotten, {}, &tree::Rot::path);
  CHECK(found.older.rotten[0].path == m.held("1") + "/dir/file");
  CHECK(found.older.rotten[0].what == "an older version's file has another content");
  CHECK(found.older.rotten[1].path == m.held("1") + "/dir/goes");
  m.source.gone = {proto::sha256(std::string(5000, '1')), proto::sha256("goes")};
  CHECK_FALSE(m.tree().mend_older(m.source));

  // What all have is told of once, where it can be mended.
  spoil(m.held("3") + "/shared");
  found = verify();
  CHECK(found.count == 1);
  CHECK(found.older.count == 2);
}

TEST_CASE("what somebody changed in the version shown is not carried on", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("d/changed", "one");
  m.file("d/removed", "one");
  m.file("d/stays", "one");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  std::ofstream(m.held("1/d/changed")) << "else";
  fs::remove(m.held("1/d/removed"));
  std::ofstream(m.held("1/d/added")) << "added";
  m.file("d/new", "two");
  const auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.edits.count() == 2);
  CHECK(m.differences() == "");
}

TEST_CASE("versions go when they are beyond what is kept, and nobody can be reading them",
          "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  for (int version = 1; version <= 5; ++version) {
    m.file("dir/file" + std::to_string(version), "x");
    REQUIRE(m.publish_and_sync().state == State::Committed);
  }
  m.forget(2);
  tree::MirrorTree tree = m.tree();
  const auto now = base::WallTime(std::chrono::system_clock::now());
  CHECK_FALSE(tree.sweep(m.keep(2), now, 1000));
  CHECK(m.in_folder().size() == 5);  // left a moment ago
  tree.pin(2);
  CHECK(m.shown() == "2");
  CHECK(tree.sweep(m.keep(2), m.later(), 2));  // in steps
  CHECK_FALSE(tree.sweep(m.keep(2), m.later(), 1000));
  CHECK(m.in_folder() == std::vector<std::string>{"2", "4", "5"});
  tree.unpin();
  CHECK(m.shown() == "5");
  CHECK_FALSE(tree.sweep(m.keep(2), now, 1000));
  CHECK(m.in_folder().size() == 3);
  CHECK_FALSE(tree.sweep(m.keep(1), m.later(), 1000));
  m.forget(1);
  CHECK_FALSE(tree.sweep(m.keep(1), m.later(), 1000));
  CHECK(m.in_folder() == std::vector<std::string>{"5"});
  CHECK(m.verify().equal());
  m.file("dir/file1", "again");
  CHECK(m.publish_and_sync().state == State::Committed);
  CHECK(m.differences() == "");
}

TEST_CASE("a version that is pinned is shown until it is not", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  for (int version = 1; version <= 3; ++version) {
    m.file("file", std::string(static_cast<std::size_t>(version), 'v'));
    REQUIRE(m.publish_and_sync().state == State::Committed);
  }
  tree::MirrorTree tree = m.tree();
  CHECK_THROWS_WITH(tree.pin(9), Catch::Contains("1, 2, 3"));
  tree.pin(1);
  m.settle();
  CHECK(m.shown() == "1");
  CHECK(tree.pinned()->number == 1);
  tree.unpin();
  CHECK(m.shown() == "3");
  CHECK_FALSE(tree.pinned());
}

TEST_CASE("the newest version is handed out, whichever is shown", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  const std::string large(5'000'000, 'l');  // not hashed when it is asked for: its stat tells
  m.file("large", large);
  for (const char* content : {"one", "two", "three"}) {
    m.file("file", content);
    REQUIRE(m.publish_and_sync().state == State::Committed);
  }
  m.forget(2);
  CHECK_FALSE(m.tree().sweep(m.keep(2), m.later(), 1000));  // so its ctime has moved again
  m.tree().pin(2);
  tree::OriginContent content(tmp / "index", m.settings.work, m.b());
  CHECK(content.object(proto::sha256(large)));
  CHECK(content.object(proto::sha256("three")));
  CHECK_FALSE(content.object(proto::sha256("two")));
}

TEST_CASE("a version for which there is no room is not begun", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("file", "one");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  m.file("file", "two!");
  m.settings.min_free_bytes = UINT64_MAX / 2;
  const auto result = m.publish_and_sync();
  REQUIRE(result.state == State::Refused);
  CHECK(result.refusal->why == proto::Reject::Unavailable);
  CHECK(m.in_folder() == std::vector<std::string>{"1"});
  m.settings.min_free_bytes = 0;
  CHECK(m.sync().state == State::Committed);
  CHECK(m.differences() == "");
}

TEST_CASE("the link takes the place of nothing but a link", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("file", "one");
  fs::create_directory(m.b());
  m.settings.adopt = true;
  auto result = m.publish_and_sync();
  REQUIRE(result.state == State::Refused);
  CHECK(result.refusal->why == proto::Reject::UnsafeTarget);
  CHECK_THAT(result.refusal->text, Catch::Contains("is no symbolic link"));
  CHECK(fs::is_directory(fs::symlink_status(m.b())));

  fs::remove(m.b());
  fs::create_symlink("elsewhere", m.b());
  m.settings.adopt = false;
  result = m.sync();
  REQUIRE(result.state == State::Refused);
  CHECK_THAT(result.refusal->text, Catch::Contains("nothing of this mirror"));
  m.settings.adopt = true;
  CHECK(m.sync().state == State::Committed);
  CHECK(m.differences() == "");
}

TEST_CASE("in place does not become snapshots, nor they that", "[mirror][snapshot]") {
  const TempDir tmp;
  Snapshotted m(tmp.path());
  m.file("file", "one");
  SECTION("from snapshots") {
    REQUIRE(m.publish_and_sync().state == State::Committed);
    m.settings.snapshot = false;
    m.file("file", "two!");
    CHECK(m.publish_and_sync().state == State::Refused);
    CHECK_THROWS_WITH(m.settle(), Catch::Contains("apply = \"snapshot\""));
  }
  SECTION("from in place") {
    m.settings.snapshot = false;
    REQUIRE(m.publish_and_sync().state == State::Committed);
    m.settings.snapshot = true;
    CHECK_THROWS_WITH(m.settle(), Catch::Contains("apply = \"inplace\""));
    m.file("file", "two!");
    CHECK(m.publish_and_sync().state == State::Refused);
  }
}
