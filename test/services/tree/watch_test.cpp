#include "bus/base/fd.hpp"
#include "services/tree/inotify_watch.hpp"
#include "services/tree/settle.hpp"
#include "services/tree/watch.hpp"
#include "test/support/as_user.hpp"
#include "test/support/temp_dir.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

struct Folder {
  test::TempDir dir;
  fs::path path{dir.path()};
};

// Events that a system call has caused are there when it returns.
tree::Dirty drained(tree::Watch& watch) {
  pollfd ready{watch.fd(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 10'000) == 1);
  return watch.drain();
}
bool has(const std::vector<proto::Bytes>& list, const proto::Bytes& path) {
  return std::ranges::find(list, path) != list.end();
}
void touch(const fs::path& path, const char* text = "x") { std::ofstream(path) << text; }

std::unique_ptr<tree::Watch> watched(const Folder& folder, tree::WatchKind kind,
                                     tree::SkipDirectory skip = nullptr) {
  return tree::watch_tree(folder.path.string(), std::move(skip), kind, true).watch;
}

bool may_mark_filesystems() {
  Folder folder;
  return tree::watch_tree(folder.path.string(), nullptr, tree::WatchKind::Auto, true).kind ==
         tree::WatchKind::Fanotify;
}

// By a watch for each directory, and by one mark for the filesystem where that is permitted.
void each_kind(const std::function<void(tree::WatchKind)>& run) {
  for (const tree::WatchKind kind : {tree::WatchKind::Inotify, tree::WatchKind::Fanotify}) {
    INFO(to_string(kind));
    if (kind == tree::WatchKind::Inotify || may_mark_filesystems())
      run(kind);
    else
      WARN("fanotify is not tested: it is not permitted here");
  }
}

}  // namespace

TEST_CASE("a change names its directory", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    fs::create_directories(folder.path / "a/b");
    fs::create_directories(folder.path / "work/deep");
    const auto watch = watched(folder, kind, [](const proto::Bytes& path) {
      return path == "work";
    });
    CHECK_FALSE(watch->drain().any());
    touch(folder.path / "a/b/file");
    CHECK(drained(*watch).directories == std::vector<proto::Bytes>{"a/b"});
    touch(folder.path / "work/file");
    touch(folder.path / "work/deep/file");
    fs::create_directory(folder.path / "work/deep/new");
    fs::permissions(folder.path / "a/b/file", fs::perms::owner_all);
    fs::remove(folder.path / "a/b/file");
    const tree::Dirty dirty = drained(*watch);
    CHECK(dirty.directories == std::vector<proto::Bytes>{"a/b"});
    CHECK(dirty.trees.empty());
  });
}

TEST_CASE("what is written in place, also through a mapping, is heard of", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    fs::create_directories(folder.path / "a");
    touch(folder.path / "a/file", "some text");
    const auto watch = watched(folder, kind);
    const base::Fd fd(::open((folder.path / "a/file").c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::pwrite(fd.get(), "S", 1, 0) == 1);
    CHECK(has(drained(*watch).directories, "a"));
    {
      base::Fd mapped(::open((folder.path / "a/file").c_str(), O_RDWR | O_CLOEXEC));
      void* map = ::mmap(nullptr, 4, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.get(), 0);
      REQUIRE(map != MAP_FAILED);
      static_cast<char*>(map)[1] = 'O';
      ::munmap(map, 4);
    }
    CHECK(has(drained(*watch).directories, "a"));
    fs::permissions(folder.path / "a", fs::perms::owner_all);
    CHECK(has(drained(*watch).directories, ""));
    fs::create_hard_link(folder.path / "a/file", folder.path / "linked");
    CHECK(has(drained(*watch).directories, ""));
    fs::last_write_time(folder.path / "a/file", fs::file_time_type::clock::now() - 24h);
    CHECK(has(drained(*watch).directories, "a"));
  });
}

TEST_CASE("what lies beside the tree is not heard of", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    for (const char* name : {"tree/in", "tree-beside", "other"})
      fs::create_directories(folder.path / name);
    const auto found = tree::watch_tree((folder.path / "tree").string(), nullptr, kind, true);
    touch(folder.path / "tree-beside/file");
    fs::create_directories(folder.path / "other/new/tree");
    touch(folder.path / "other/new/tree/file");
    CHECK_FALSE(found.watch->drain().any());
    // Our store does this to every file: it must not look like a change.
    touch(folder.path / "tree/in/file");
    CHECK(has(drained(*found.watch).directories, "in"));
    fs::create_hard_link(folder.path / "tree/in/file", folder.path / "other/held");
    fs::remove(folder.path / "other/held");
    CHECK_FALSE(found.watch->drain().any());
    fs::rename(folder.path / "tree/in", folder.path / "other/in");
    CHECK(has(drained(*found.watch).directories, ""));
    touch(folder.path / "other/in/file", "y");
    CHECK_FALSE(has(found.watch->drain().directories, "in"));
  });
}

TEST_CASE("a root that is moved away or removed is heard of", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    fs::create_directories(folder.path / "tree/in");
    const auto found = tree::watch_tree((folder.path / "tree").string(), nullptr, kind, true);
    const auto before = tree::RootPlace::of((folder.path / "tree").string());
    CHECK(before != tree::RootPlace());
    fs::rename(folder.path / "tree", folder.path / "away");
    CHECK(drained(*found.watch).all);
    CHECK(tree::RootPlace::of((folder.path / "tree").string()) == tree::RootPlace());
    fs::create_directory(folder.path / "tree");
    CHECK(tree::RootPlace::of((folder.path / "tree").string()) != before);
  });
}

TEST_CASE("new, moved and removed directories are followed", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    const auto watch = watched(folder, kind);
    // Made before a watch on "new" can stand: the listing after it finds them.
    fs::create_directories(folder.path / "new/deep/deeper");
    auto dirty = drained(*watch);
    CHECK(has(dirty.trees, "new"));
    touch(folder.path / "new/deep/deeper/file");
    CHECK(has(drained(*watch).directories, "new/deep/deeper"));
    fs::rename(folder.path / "new", folder.path / "moved");
    CHECK(has(drained(*watch).trees, "moved"));
    touch(folder.path / "moved/deep/deeper/file", "again");
    dirty = drained(*watch);
    CHECK(has(dirty.directories, "moved/deep/deeper"));
    CHECK_FALSE(has(dirty.directories, "new/deep/deeper"));
    fs::remove_all(folder.path / "moved");
    CHECK(has(drained(*watch).directories, ""));
    if (const auto* each = dynamic_cast<tree::InotifyWatch*>(watch.get()))
      CHECK(each->watched() == 1);
  });
}

TEST_CASE("lost events mean everything", "[watch]") {
  each_kind([](tree::WatchKind kind) {
    Folder folder;
    fs::create_directory(folder.path / "a");
    const auto watch = watched(folder, kind);
    long limit = 0;
    std::ifstream("/proc/sys/fs/" + std::string(to_string(kind)) + "/max_queued_events") >> limit;
    REQUIRE(limit > 0);
    // Two events a turn at least. Names differ, so that the kernel cannot merge them.
    for (long i = 0; i <= limit / 2 + 1; ++i) {
      const std::string path = (folder.path / "a" / std::to_string(i)).string();
      touch(path);
      ::unlink(path.c_str());
    }
    // fanotify merges what happens to one name; a name each, left there, is one event at least.
    for (long i = 0; kind == tree::WatchKind::Fanotify && i <= limit; ++i)
      REQUIRE(::symlink("x", (folder.path / "a" / ("l" + std::to_string(i))).c_str()) == 0);
    fs::create_directory(folder.path / "unseen");
    CHECK(drained(*watch).all);
    touch(folder.path / "unseen/file");
    CHECK(has(drained(*watch).directories, "unseen"));
  });
}

TEST_CASE("where one mark would not hear all, every directory is watched", "[watch]") {
  if (!may_mark_filesystems()) {
    WARN("not tested: fanotify is not permitted here");
    return;
  }
  Folder folder;
  fs::create_directories(folder.path / "tree/bound");
  fs::create_directories(folder.path / "else where");
  const std::string root = (folder.path / "tree").string();
  const std::string bound = (folder.path / "tree/bound").string();
  CHECK(tree::watch_tree(root, nullptr, tree::WatchKind::Auto, true).kind ==
        tree::WatchKind::Fanotify);
  if (::mount((folder.path / "else where").c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return;  // not permitted here
  const auto found = tree::watch_tree(root, nullptr, tree::WatchKind::Auto, true);
  CHECK(found.kind == tree::WatchKind::Inotify);
  CHECK(found.reason.find("/tree/bound is mounted below") != std::string::npos);
  touch(folder.path / "else where/file");
  CHECK(has(drained(*found.watch).directories, "bound"));
  REQUIRE(::umount2(bound.c_str(), MNT_DETACH) == 0);

  // Another filesystem is no part of a tree that stays in its own.
  REQUIRE(::mount("none", bound.c_str(), "tmpfs", 0, nullptr) == 0);
  CHECK(tree::watch_tree(root, nullptr, tree::WatchKind::Auto, true).kind ==
        tree::WatchKind::Fanotify);
  CHECK(tree::watch_tree(root, nullptr, tree::WatchKind::Auto, false).kind ==
        tree::WatchKind::Inotify);
  REQUIRE(::umount2(bound.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("without privileges every directory is watched, and it is said why", "[watch]") {
  Folder folder;
  fs::permissions(folder.path, fs::perms::all);
  CHECK(test::as_user(test::kPlainUser, [&] {
    const auto found =
        tree::watch_tree(folder.path.string(), nullptr, tree::WatchKind::Auto, true);
    if (found.kind != tree::WatchKind::Inotify) throw std::runtime_error("not inotify");
    if (found.reason.empty()) throw std::runtime_error("no reason");
    try {
      tree::watch_tree(folder.path.string(), nullptr, tree::WatchKind::Fanotify, true);
      throw std::runtime_error("fanotify, though it is not permitted");
    } catch (const std::system_error&) {
    }
  }) == "");
}

TEST_CASE("a version is ripe after quiet, not after time", "[settle]") {
  tree::Settle settle(2s, 10s);
  const base::MonoTime start{};
  CHECK_FALSE(settle.due());
  for (int i = 0; i <= 12; ++i) settle.changed(start + i * 1s);
  CHECK_FALSE(settle.ripe(start + 13s));
  CHECK(settle.too_long(start + 13s));
  CHECK_FALSE(settle.too_long(start + 14s));
  CHECK(settle.due() == start + 14s);
  CHECK(settle.ripe(start + 14s));
  settle.closed();
  CHECK_FALSE(settle.ripe(start + 100s));
}
