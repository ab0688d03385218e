#include "services/tree/settle.hpp"
#include "services/tree/watch.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <poll.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "watch-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
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

}  // namespace

TEST_CASE("a change names its directory", "[watch]") {
  Folder folder;
  fs::create_directories(folder.path / "a/b");
  fs::create_directory(folder.path / "work");
  tree::Watch watch(folder.path.string(), [](const proto::Bytes& path) { return path == "work"; });
  CHECK(watch.watched() == 3);
  CHECK_FALSE(watch.drain().any());
  touch(folder.path / "a/b/file");
  CHECK(drained(watch).directories == std::vector<proto::Bytes>{"a/b"});
  touch(folder.path / "work/file");
  fs::permissions(folder.path / "a/b/file", fs::perms::owner_all);
  fs::remove(folder.path / "a/b/file");
  CHECK(drained(watch).directories == std::vector<proto::Bytes>{"a/b"});
}

TEST_CASE("new, moved and removed directories are followed", "[watch]") {
  Folder folder;
  tree::Watch watch(folder.path.string(), nullptr);
  // Made before the watch on "new" can stand: the listing after it finds them.
  fs::create_directories(folder.path / "new/deep/deeper");
  auto dirty = drained(watch);
  CHECK(has(dirty.trees, "new"));
  touch(folder.path / "new/deep/deeper/file");
  CHECK(has(drained(watch).directories, "new/deep/deeper"));
  fs::rename(folder.path / "new", folder.path / "moved");
  CHECK(has(drained(watch).trees, "moved"));
  touch(folder.path / "moved/deep/deeper/file", "again");
  dirty = drained(watch);
  CHECK(has(dirty.directories, "moved/deep/deeper"));
  CHECK_FALSE(has(dirty.directories, "new/deep/deeper"));
  fs::remove_all(folder.path / "moved");
  CHECK(has(drained(watch).directories, ""));
  CHECK(watch.watched() == 1);
}

TEST_CASE("lost events mean everything", "[watch]") {
  Folder folder;
  fs::create_directory(folder.path / "a");
  tree::Watch watch(folder.path.string(), nullptr);
  long limit = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> limit;
  REQUIRE(limit > 0);
  // Two events a turn at least. Names differ, so that the kernel cannot merge them.
  for (long i = 0; i <= limit / 2; ++i) {
    const std::string path = (folder.path / "a" / std::to_string(i % 2)).string();
    touch(path);
    ::unlink(path.c_str());
  }
  fs::create_directory(folder.path / "unseen");
  CHECK(drained(watch).all);
  touch(folder.path / "unseen/file");
  CHECK(has(drained(watch).directories, "unseen"));
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
