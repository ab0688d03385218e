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

// A small tree with a bit of everything.
void small_tree(Mirror& m) {
  m.file("top", "top content");
  m.file("dir/one", "one");
  m.file("dir/two", "two");
  m.file("dir/deep/er/three", std::string(100'000, '3'));
  m.file("empty", "");
  fs::create_symlink("dir/one", m.a() + "/link");
  fs::create_hard_link(m.a() + "/dir/one", m.a() + "/hard");
}

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

TEST_CASE("what has come before the connection broke is kept", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 50; ++i)
    m.file("f" + std::to_string(i), std::string(1000, static_cast<char>(i)));
  m.publish();
  m.source.fail_after_bytes = 30'000;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  const auto sent = m.source.object_bytes;
  CHECK_FALSE(fs::exists(m.b()));
  const auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.source.object_bytes - sent < 35'000);  // of 50,000
  CHECK(m.differences() == "");
}

TEST_CASE("a large file goes on where it was cut off", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("large", std::string(20'000'000, 'L'));
  m.publish();
  m.source.fail_after_bytes = 15'000'000;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  const auto sent = m.source.object_bytes;
  SECTION("in the same boot") {}
  SECTION("after a reboot") {
    m.settings.boot = "another boot";
  }
  const auto result = m.sync();
  CHECK(result.state == State::Committed);
  CHECK(m.source.object_bytes - sent <= 5'100'000);
  CHECK(m.differences() == "");
}

TEST_CASE("after a reboot staged contents are hashed again", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 20; ++i)
    m.file("f" + std::to_string(i), std::string(1000, static_cast<char>('a' + i)));
  m.publish();
  m.settings.boot = "first";
  m.source.fail_after_bytes = 15'000;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  // As a power cut may leave a file: named, but empty.
  int emptied = 0;
  for (const auto& each : fs::directory_iterator(tmp / "work/staging"))
    if (each.path().filename().string()[0] == 'c' && emptied < 3) {
      fs::resize_file(each.path(), 0);
      ++emptied;
    }
  CHECK(emptied == 3);
  m.settings.boot = "second";
  const auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK_FALSE(result.repaired);
  CHECK(m.differences() == "");
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

TEST_CASE("work stops when it is told to, and goes on", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 800; ++i) m.file("d/f" + std::to_string(i), "c" + std::to_string(i));
  m.publish();
  std::atomic<bool> cancel{false};
  m.control.cancel = &cancel;
  std::uint64_t files = 0;
  m.control.progress = [&](const tree::Progress& progress) {
    files = progress.files;
    if (progress.bytes > 0 && progress.files > 200) cancel = true;
  };
  CHECK_THROWS_AS(m.sync(), tree::Cancelled);
  CHECK(files > 200);
  cancel = false;
  m.control.progress = {};
  const auto sent = m.source.objects_sent;
  CHECK(m.sync().state == State::Committed);
  CHECK(m.source.objects_sent - sent < 650);
  CHECK(m.differences() == "");
}

TEST_CASE("versions and their packs go together, by number, age and bytes", "[mirror][packs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  m.settings.keep_packs_bytes = UINT64_MAX;
  m.tree().retain(base::from_ns(1));  // nothing has come yet
  std::vector<proto::Hash> packs;
  std::uint64_t last_two = 0;
  for (int i = 0; i < 4; ++i) {
    m.file("file", std::string(1000, static_cast<char>('a' + i)));
    REQUIRE(m.publish_and_sync().state == State::Committed);
    packs.push_back(m.last_pack());
    last_two = m.index().newest()->pack->size +
               (i > 0 ? m.index().version(static_cast<std::uint64_t>(i))->pack->size : 0);
  }
  const auto on_shelf = [&] {
    std::vector<std::uint64_t> numbers;
    for (std::size_t i = 0; i < packs.size(); ++i)
      if (fs::exists(m.settings.work + "/packs/" + to_hex(packs[i]))) numbers.push_back(i + 1);
    return numbers;
  };
  using Numbers = std::vector<std::uint64_t>;
  const std::string coming = m.settings.work + "/packs/" + to_hex(proto::Hash{}) + ".part";
  std::ofstream(coming) << "half of one";
  const auto after = [&](const tree::Retention& retain) {
    m.settings.retain = retain;
    m.tree().retain(base::from_ns(10));  // each is dated by its number
    CHECK(on_shelf() == m.index().version_numbers());
    return m.index().version_numbers();
  };
  tree::Retention retain;
  CHECK(after(retain) == Numbers{1, 2, 3, 4});
  SECTION("by number") {
    retain.versions = 2;
    CHECK(after(retain) == Numbers{3, 4});
  }
  SECTION("by age") {
    retain.time = std::chrono::nanoseconds(8);
    CHECK(after(retain) == Numbers{2, 3, 4});
    retain.time = std::chrono::nanoseconds(1);
    CHECK(after(retain) == Numbers{4});
  }
  SECTION("by bytes") {
    retain.bytes = last_two;
    CHECK(after(retain) == Numbers{3, 4});
  }
  SECTION("packs alone") {
    m.settings.keep_packs_bytes = last_two;
    m.tree().retain(base::from_ns(10));
    CHECK(on_shelf() == Numbers{3, 4});
    CHECK(m.index().version_numbers().size() == 4);
  }
  CHECK(fs::exists(coming));
  m.file("file", "more");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  CHECK_FALSE(fs::exists(coming));
}

TEST_CASE("a folded chain of packs fetches contents of the last version only", "[mirror][packs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "line " + std::to_string(i * 7919 % 1000) + "\n";
  m.file("big", text);
  m.file("other", "o");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const auto objects = m.source.objects_sent;
  for (int i = 0; i < 4; ++i) {
    m.file("big", text += "appended " + std::to_string(i) + "\n");
    m.file("passing" + std::to_string(i), std::string(3000, static_cast<char>('a' + i)));
    if (i > 0) fs::remove(m.a() + "/passing" + std::to_string(i - 1));
    m.publish();
  }
  auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.version == 5);
  CHECK(m.source.complaints == std::vector<std::string>());
  CHECK(m.source.objects_sent == objects);
  CHECK(m.source.packs_sent == 5);
  CHECK(m.differences() == "");

  SECTION("a pack that is gone: nodes are walked") {
    m.file("big", text += "more\n");
    const auto& snapshot = m.publish();
    (void)snapshot;
    m.source.gone.insert(m.last_pack());
    result = m.sync();
    CHECK(result.state == State::Committed);
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a damaged pack is complained about, and walked around") {
    m.file("big", text += "more\n");
    m.publish();
    m.source.damaged.insert(m.last_pack());
    result = m.sync();
    CHECK(result.state == State::Committed);
    CHECK(m.source.complaints.size() == 2);  // each time it came
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a base that somebody edited: its content is fetched whole") {
    std::ofstream(m.b() + "/big", std::ios::app) << "vandal";
    m.file("big", text += "more\n");
    result = m.publish_and_sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a pack cut off in the middle is continued") {
    m.file("noise", [] {
      std::string noise;
      for (unsigned x = 1; noise.size() < 60'000; x = x * 1664525 + 1013904223)
        noise += static_cast<char>(x >> 24);
      return noise;
    }());
    m.publish();
    m.source.fail_after_bytes = 20'000;
    const auto before = m.source.bytes_received();
    CHECK_THROWS_AS(m.sync(), tree::SourceError);
    CHECK(m.sync().state == State::Committed);
    CHECK(m.source.bytes_received() - before < 90'000);
  }
  CHECK(m.differences() == "");
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

TEST_CASE("what this user cannot do is left out and counted", "[mirror][plain]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  fs::permissions(tmp.path(), fs::perms::all);
  {
    Mirror m(tmp.path());
    small_tree(m);
    REQUIRE(::mknod((m.a() + "/device").c_str(), S_IFCHR | 0600, 0x0103) == 0);
    REQUIRE(::mkfifo((m.a() + "/fifo").c_str(), 0640) == 0);
    REQUIRE(::chown((m.a() + "/top").c_str(), kPlainUser, kPlainUser) == 0);
    REQUIRE(::chown((m.a() + "/dir/two").c_str(), 1, 1) == 0);
    fs::permissions(m.a() + "/dir/deep", fs::perms(0555));
    fs::remove_all(tmp / "work");
  }
  // entries other than `top` belong to somebody else
  CHECK(as_user(kPlainUser, [&] {
          Mirror m(tmp.path());
          auto result = m.publish_and_sync();
          if (result.state != State::Committed) throw std::runtime_error(describe(result));
          const auto owners = result.fidelity.owners;
          if (result.fidelity.devices != 1 || owners != 10 || result.fidelity.full())
            throw std::runtime_error("fidelity " + std::to_string(owners) + " " +
                                     std::to_string(result.fidelity.devices));
          const auto verified = m.verify();
          if (!verified.equal())
            throw std::runtime_error("verify: " + verified.differences[0].path);
          if (m.sync().state != State::Unchanged) throw std::runtime_error("not unchanged");
        }) == "");
  CHECK(oracle(tmp / "a", tmp / "b", "--no-owner --no-group --no-devices --exclude=/device") == "");
  // The next version has fewer of them.
  fs::remove(tmp / "a/device");
  fs::remove_all(tmp / "a/dir");
  CHECK(as_user(kPlainUser, [&] {
          Mirror m(tmp.path());
          m.publish();
          const auto result = m.publish_and_sync();
          if (result.state != State::Committed) throw std::runtime_error(describe(result));
          if (result.fidelity.devices != 0 || result.fidelity.owners != 4)
            throw std::runtime_error("fidelity " + std::to_string(result.fidelity.owners));
        }) == "");
  CHECK(oracle(tmp / "a", tmp / "b", "--no-owner --no-group") == "");
}

TEST_CASE("a mirror that may do more than before does it", "[mirror]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(::chown((m.a() + "/dir/two").c_str(), 7, 8) == 0);
  m.settings.metadata.owner = tree::OwnerMode::None;
  auto result = m.publish_and_sync();
  CHECK(result.fidelity.owners == 1);
  CHECK(m.differences() != "");
  m.settings.metadata.owner = tree::OwnerMode::Numeric;
  result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.fidelity.full());
  CHECK(m.differences() == "");
}
