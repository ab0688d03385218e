// Somebody else at work in the tree: before an apply, between apply and check, all the time.
#include "test/services/tree/mirror_fixture.hpp"

#include "proto/sha256.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;
using State = tree::SyncResult::State;
using Step = tree::Probe::Step;

namespace {

struct stat stat_of(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) base::throw_errno("lstat " + path);
  return st;
}

void set_mtime(const std::string& path, const timespec& time) {
  const timespec times[2] = {{0, UTIME_OMIT}, time};
  if (::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    base::throw_errno("utimens " + path);
}

// Flips the first byte and puts the times back.
void flip_byte(const std::string& path) {
  const auto st = stat_of(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const int first = file.get();
    file.seekp(0).put(static_cast<char>(first ^ 1));
  }
  set_mtime(path, st.st_mtim);
}

void edit(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// A mirror at version 1, and a version 2 with everything a plan can do in it.
struct Scene {
  TempDir tmp;
  Mirror m{tmp.path()};
  ScriptedProbe probe;

  Scene() {
    m.file("placed", "old content");
    m.file("touched", "content of touched");
    m.file("dir/placed", "old too");
    m.file("dir/removed", "x");
    m.file("dir/touched", "content of dir/touched");
    m.file("moved-away", "moved content");
    m.file("group/a", "group content");
    fs::create_hard_link(m.a() + "/group/a", m.a() + "/group/b");
    fs::create_symlink("placed", m.a() + "/symlink");
    m.file("still/untouched", "u");
    m.file("other/x", "x of other");
    if (m.publish_and_sync().state != State::Committed) throw std::runtime_error("first sync");
    m.file("placed", "NEW content");
    m.file("dir/placed", "new too!");
    fs::remove(m.a() + "/dir/removed");
    fs::rename(m.a() + "/moved-away", m.a() + "/dir/moved");
    set_mtime(m.a() + "/touched", {1'000'000, 42});
    set_mtime(m.a() + "/dir/touched", {2'000'000, 42});
    fs::create_hard_link(m.a() + "/group/a", m.a() + "/dir/c");
    fs::remove(m.a() + "/symlink");
    fs::create_symlink("elsewhere", m.a() + "/symlink");
    m.file("new/file", "new file");
    m.publish();
    m.settings.probe = &probe;
  }
  std::string b(const std::string& name) const { return m.b() + "/" + name; }
};

// One way of damaging what an apply has just made.
struct Damage {
  const char* what;
  void (*harm)(const Scene&);
};
const Damage kDamages[] = {
    {"a byte, times put back", [](const Scene& s) { flip_byte(s.b("placed")); }},
    {"a byte of a moved file", [](const Scene& s) { flip_byte(s.b("dir/moved")); }},
    {"a byte where only metadata changed", [](const Scene& s) { flip_byte(s.b("dir/touched")); }},
    {"a byte in a link group", [](const Scene& s) { flip_byte(s.b("dir/c")); }},
    {"size", [](const Scene& s) { edit(s.b("placed"), "longer than it was"); }},
    {"mode", [](const Scene& s) { ::chmod(s.b("touched").c_str(), 0777); }},
    {"mode of a directory", [](const Scene& s) { ::chmod(s.b("dir").c_str(), 0700); }},
    {"mtime",
     [](const Scene& s) {
       set_mtime(s.b("placed"), {1, 1});
     }},
    {"mtime of a directory",
     [](const Scene& s) {
       set_mtime(s.b("dir"), {1, 1});
     }},
    {"mtime of the root",
     [](const Scene& s) {
       set_mtime(s.m.b(), {1, 1});
     }},
    {"mtime of a symlink",
     [](const Scene& s) {
       set_mtime(s.b("symlink"), {1, 1});
     }},
    {"a name gone", [](const Scene& s) { fs::remove(s.b("new/file")); }},
    {"a directory gone", [](const Scene& s) { fs::remove_all(s.b("new")); }},
    {"a name more", [](const Scene& s) { edit(s.b("dir/surplus"), "x"); }},
    {"a name more, directory's times put back",
     [](const Scene& s) {
       const auto st = stat_of(s.b("dir"));
       edit(s.b("dir/surplus"), "x");
       set_mtime(s.b("dir"), st.st_mtim);
     }},
    {"another type",
     [](const Scene& s) {
       fs::remove(s.b("placed"));
       fs::create_directory(s.b("placed"));
     }},
    {"a symlink that leads elsewhere",
     [](const Scene& s) {
       const auto st = stat_of(s.b("symlink"));
       fs::remove(s.b("symlink"));
       fs::create_symlink("/etc/pass", s.b("symlink"));
       set_mtime(s.b("symlink"), st.st_mtim);
     }},
    {"a link broken",
     [](const Scene& s) {
       const auto st = stat_of(s.b("dir/c"));
       fs::copy_file(s.b("dir/c"), s.b("dir/tmp"));
       ::rename(s.b("dir/tmp").c_str(), s.b("dir/c").c_str());
       ::chmod(s.b("dir/c").c_str(), st.st_mode & 07777);
       set_mtime(s.b("dir/c"), st.st_mtim);
     }},
    {"a link made",
     [](const Scene& s) {
       // The same content and times, but one inode too few.
       fs::remove(s.b("dir/placed"));
       fs::create_hard_link(s.b("placed"), s.b("dir/placed"));
     }},
};

}  // namespace

TEST_CASE("what is damaged between apply and check is seen and mended", "[mirror][damage]") {
  for (const Damage& damage : kDamages) {
    Scene scene;
    INFO(damage.what);
    scene.probe.on_step = [&, done = false](Step step) mutable {
      if (step == Step::Applied && !std::exchange(done, true)) damage.harm(scene);
    };
    const auto result = scene.m.sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(scene.m.differences() == "");
    CHECK(scene.m.verify().equal());
    CHECK(scene.m.sync().state == State::Unchanged);
  }
}

TEST_CASE("what is damaged every time is not committed", "[mirror][damage]") {
  // Times and modes alone the check itself puts right; contents and names it does not.
  for (const std::size_t number : {0u, 2u, 3u, 4u, 11u, 13u, 15u, 16u}) {
    const Damage& damage = kDamages[number];
    Scene scene;
    INFO(damage.what);
    scene.probe.on_step = [&](Step step) {
      if (step == Step::Applied) damage.harm(scene);
    };
    const auto result = scene.m.sync();
    INFO(describe(result));
    CHECK(result.state == State::Failed);
    CHECK_FALSE(result.mismatches.empty());
    CHECK(result.version == 1);
    CHECK(scene.m.index().newest()->record.number == 1);
    // Left alone, the next try succeeds.
    scene.probe.on_step = {};
    const auto next = scene.m.sync();
    INFO(describe(next));
    CHECK(next.state == State::Committed);
    CHECK(scene.m.differences() == "");
  }
}

TEST_CASE("local edits are named and overwritten", "[mirror][damage]") {
  Scene scene;
  const auto& b = [&](const char* name) { return scene.b(name); };
  std::set<std::string> expected;
  SECTION("in files that change: content") {
    flip_byte(b("placed"));
    // Replaced whatever it was.
  }
  SECTION("in a file whose time changes") {
    flip_byte(b("touched"));
    expected = {"touched"};
  }
  SECTION("in a file whose time changes, to another size") {
    edit(b("dir/touched"), "edited by hand");
    expected = {"dir/touched"};
  }
  SECTION("in a file that moves") {
    edit(b("moved-away"), "edited!");
    expected = {"moved-away"};
  }
  SECTION("in a file that is removed") {
    edit(b("dir/removed"), "edited");
    expected = {"dir/removed"};
  }
  SECTION("in a link group") {
    flip_byte(b("group/b"));
    // Found when a name is to be linked to it.
  }
  SECTION("names added and removed") {
    edit(b("dir/mine"), "mine");
    fs::create_directories(b("dir/mine-too/deep"));
    edit(b("dir/mine-too/deep/file"), "mine");
    fs::remove(b("dir/touched"));
    expected = {"dir/mine", "dir/mine-too", "dir/mine-too/deep", "dir/mine-too/deep/file",
                "dir/touched"};
  }
  SECTION("a name that the new version has, too") {
    fs::create_directories(b("new"));
    edit(b("new/file"), "not this");
    expected = {"new/file"};
  }
  SECTION("a directory where a file goes, and the other way round") {
    fs::remove(b("placed"));
    fs::create_directories(b("placed/inside"));
    fs::remove_all(b("group"));
    edit(b("group"), "a file now");
    expected = {"placed", "placed/inside", "group"};
  }
  SECTION("a directory replaced by a symlink out of the tree") {
    fs::create_directories(scene.tmp / "outside");
    edit(scene.tmp / "outside/placed", "outside");
    edit(scene.tmp / "outside/removed", "outside");
    fs::remove_all(b("dir"));
    fs::create_directory_symlink(scene.tmp / "outside", b("dir"));
    expected = {"dir"};
  }
  SECTION("a file linked to another") {
    fs::remove(b("dir/touched"));
    fs::create_hard_link(b("touched"), b("dir/touched"));
    expected = {"dir/touched"};
  }
  const auto result = scene.m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(scene.m.differences() == "");
  std::set<std::string> named;
  for (const auto& each : result.edits.named()) named.insert(each.path);
  for (const auto& path : expected) {
    INFO(path);
    CHECK(named.contains(path));
  }
  if (fs::exists(scene.tmp / "outside")) {
    CHECK(fs::file_size(scene.tmp / "outside/placed") == 7);
    CHECK(fs::exists(scene.tmp / "outside/removed"));
  }
}

TEST_CASE("verify names what differs, repair mends it", "[mirror][verify]") {
  Scene scene;
  REQUIRE(scene.m.sync().state == State::Committed);
  CHECK(scene.m.verify().equal());
  CHECK(scene.m.verify().files == 11);
  const auto b = [&](const char* name) { return scene.b(name); };
  std::string path, what;
  SECTION("a byte, times put back, in a part nothing changed in") {
    flip_byte(b("still/untouched"));
    path = "still/untouched";
    what = "content";
  }
  SECTION("mode") {
    ::chmod(b("other/x").c_str(), 0600);
    path = "other/x";
    what = "mode";
  }
  SECTION("mode of a directory") {
    ::chmod(b("other").c_str(), 0711);
    path = "other";
    what = "mode";
  }
  SECTION("mode of the root") {
    ::chmod(scene.m.b().c_str(), 0711);
    what = "mode";
  }
  SECTION("missing") {
    fs::remove(b("other/x"));
    path = "other/x";
    what = "missing";
  }
  SECTION("a missing directory") {
    fs::remove_all(b("other"));
    path = "other";
    what = "missing";
  }
  SECTION("surplus") {
    fs::create_directories(b("still/more/dirs"));
    path = "still/more";
    what = "should not be there";
  }
  SECTION("a broken group") {
    fs::copy_file(b("dir/c"), b("dir/tmp"));
    fs::rename(b("dir/tmp"), b("dir/c"));
    path = "dir/c";
    what = "group";
  }
  SECTION("a wrong link") {
    fs::remove(b("other/x"));
    fs::create_hard_link(b("placed"), b("other/x"));
    path = "other/x";
    what = "content";
  }
  const auto verified = scene.m.verify();
  CHECK_FALSE(verified.equal());
  const auto found = std::ranges::find_if(verified.differences, [&](const auto& d) {
    return d.path == path && d.what.find(what) != std::string::npos;
  });
  for (const auto& each : verified.differences) UNSCOPED_INFO(each.path << ": " << each.what);
  CHECK(found != verified.differences.end());
  const auto repaired = scene.m.repair();
  INFO(describe(repaired));
  CHECK(repaired.state == State::Committed);
  CHECK(scene.m.differences() == "");
  CHECK(scene.m.verify().equal());
}

TEST_CASE("an attacker who swaps directories for symlinks gains nothing", "[mirror][hostile]") {
  // At every change the mirror makes, once each: "dir" becomes a symlink out of the tree.
  for (int at = 0;; ++at) {
    Scene scene;
    fs::create_directories(scene.tmp / "outside");
    for (const char* name : {"placed", "removed", "touched", "moved", "c"})
      edit(scene.tmp / (std::string("outside/") + name), "precious");
    int count = 0;
    bool done = false;
    scene.probe.on_change = [&](const std::string&, const proto::Bytes&) {
      if (count++ != at || !fs::exists(scene.b("dir"))) return;
      fs::rename(scene.b("dir"), scene.tmp / "stolen");
      fs::create_directory_symlink(scene.tmp / "outside", scene.b("dir"));
      done = true;
    };
    const auto result = scene.m.sync();
    if (!done) break;
    INFO("change " << at << " " << describe(result));
    for (const char* name : {"placed", "removed", "touched", "moved", "c"}) {
      const auto st = stat_of(scene.tmp / (std::string("outside/") + name));
      CHECK(st.st_size == 8);
      CHECK(st.st_nlink == 1);
      CHECK(st.st_mtim.tv_sec > 1'500'000'000);
    }
    CHECK(std::distance(fs::directory_iterator(scene.tmp / "outside"), {}) == 5);
    scene.probe.on_change = {};
    scene.m.sync();
    CHECK(scene.m.differences() == "");
  }
}

TEST_CASE("a signed tree that contradicts itself is refused, and nothing is touched",
          "[mirror][hostile]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("d/f", "x");
  m.file("g", "y");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  fs::create_directory(tmp / "outside");

  TreeSnapshot next = take_snapshot(m.a(), 2, &m.snapshot());
  proto::Node root = *proto::decode_node(next.blobs.at(next.root.entry.content));
  const auto put_root = [&](proto::Bytes bytes) {
    next.root.entry.content = proto::sha256(bytes);
    next.blobs[next.root.entry.content] = bytes;
  };
  const auto raw_name = [&](const std::string& name) {
    // By hand, because the encoder does not write such names.
    proto::Node one;
    proto::Entry entry = root.entries[1];
    entry.name = std::string(name.size(), 'q');
    one.entries = {entry};
    proto::Bytes bytes = proto::encode_node(one);
    bytes.replace(bytes.find(entry.name), name.size(), name);
    put_root(bytes);
    ++next.record.counts.entries;
  };
  proto::Reject why = proto::Reject::BadName;
  SECTION("..") {
    raw_name("..");
  }
  SECTION(".") {
    raw_name(".");
  }
  SECTION("a slash") {
    raw_name("a/b");
  }
  SECTION("an absolute path") {
    raw_name("/etc/passwd");
  }
  SECTION("NUL") {
    raw_name(std::string("a\0b", 3));
  }
  SECTION("the work folder's name") {
    raw_name(".mirrorbus");
  }
  SECTION("more entries than counted") {
    root.entries.push_back(root.entries[1]);
    root.entries.back().name = "h";
    put_root(proto::encode_node(root));
    next.record.counts.entries = 1;
    why = proto::Reject::BadCount;
  }
  SECTION("links between unlike files") {
    proto::LinksTable links;
    links.groups = {{"d/f", "g"}};
    const auto bytes = proto::encode_links(links);
    next.root.links = proto::sha256(bytes);
    next.blobs[next.root.links] = bytes;
    why = proto::Reject::BadField;
  }
  SECTION("a tree of one node in itself many times over") {
    // 2^60 entries in sixty nodes.
    proto::Hash below = root.entries[0].content;
    for (int i = 0; i < 60; ++i) {
      proto::Node node;
      for (const char* name : {"a", "b"}) {
        proto::Entry entry = root.entries[0];
        entry.name = name;
        entry.content = below;
        node.entries.push_back(entry);
      }
      const auto bytes = proto::encode_node(node);
      below = proto::sha256(bytes);
      next.blobs[below] = bytes;
    }
    next.root.entry.content = below;
    next.record.counts.entries = 1'000'000;
    why = proto::Reject::BadCount;
  }
  next.seal();
  m.source.add(next);
  const auto result =
      tree::MirrorTree(m.settings, m.index()).bring_to({next.version()}, m.source, m.control);
  INFO(describe(result));
  REQUIRE(result.state == State::Refused);
  CHECK(result.refusal->why == why);
  CHECK(m.differences() == "");
}
