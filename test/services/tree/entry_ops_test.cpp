#include "services/tree/entry_ops.hpp"

#include "services/tree/root_dir.hpp"
#include "test/support/as_user.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using test::TempDir;

namespace {

int errno_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

struct stat stat_of(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) base::throw_errno("lstat " + path);
  return st;
}

}  // namespace

TEST_CASE("directories are opened beneath the root only", "[root_dir]") {
  const TempDir tmp;
  std::filesystem::create_directories(tmp / "tree/a/b");
  std::filesystem::create_directories(tmp / "outside");
  std::filesystem::create_symlink("../outside", tmp / "tree/out");
  std::filesystem::create_symlink("a", tmp / "tree/in");
  tmp.write("tree/file", "x");
  RootDir root(tmp / "tree");

  CHECK(root.open("").get() >= 0);
  CHECK(root.open("a/b").get() >= 0);
  CHECK(root.open("a/b").get() == root.open("a/b").get());
  CHECK(errno_of([&root] { root.open("out"); }) == ENOTDIR);
  CHECK(errno_of([&root] { root.open("in"); }) == ENOTDIR);
  CHECK(errno_of([&root] { root.open("in/b"); }) == ELOOP);
  CHECK(errno_of([&root] { root.open("../outside"); }) == EXDEV);
  CHECK(errno_of([&root] { root.open("/etc"); }) != 0);
  CHECK(errno_of([&root] { root.open("file"); }) == ENOTDIR);
  CHECK(errno_of([&root] { root.open("none"); }) == ENOENT);
}

TEST_CASE("a cached directory is forgotten with what lies below it", "[root_dir]") {
  const TempDir tmp;
  std::filesystem::create_directories(tmp / "a/b");
  std::filesystem::create_directories(tmp / "ab");
  RootDir root(tmp.path());
  const auto ino = [&root](const char* path) {
    struct stat st;
    ::fstat(root.open(path).get(), &st);
    return st.st_ino;
  };
  const auto old_b = ino("a/b");
  const auto old_ab = ino("ab");
  std::filesystem::rename(tmp / "a", tmp / "c");
  std::filesystem::rename(tmp / "ab", tmp / "d");
  std::filesystem::create_directories(tmp / "a/b");
  root.forget("a");
  CHECK(ino("a/b") != old_b);
  CHECK(ino("ab") == old_ab);  // still cached: "ab" is not below "a"
  for (int i = 0; i < 200; ++i) std::filesystem::create_directory(tmp / ("n" + std::to_string(i)));
  for (int i = 0; i < 200; ++i) root.open("n" + std::to_string(i));
  CHECK(ino("a/b") == stat_of(tmp / "a/b").st_ino);
}

TEST_CASE("metadata is changed without following symlinks", "[entry_ops]") {
  const TempDir tmp;
  tmp.write("outside", "x");
  ::chmod((tmp / "outside").c_str(), 0644);
  std::filesystem::create_directory(tmp / "tree");
  std::filesystem::create_symlink("../outside", tmp / "tree/link");
  tmp.write("tree/file", "x");
  RootDir root(tmp / "tree");
  const EntryOps ops;
  const auto before = stat_of(tmp / "outside");

  CHECK(errno_of([&] { ops.set_mode(root.fd(), "link", 0777); }) == EOPNOTSUPP);
  ops.set_mtime(root.fd(), "link", -2'000'000'000, 123456789);
  if (::geteuid() == 0) ops.set_owner(root.fd(), "link", 12345, 54321);
  const auto link = stat_of(tmp / "tree/link");
  CHECK(link.st_mtim.tv_sec == -2'000'000'000);  // before 1970
  CHECK(link.st_mtim.tv_nsec == 123456789);
  const auto after = stat_of(tmp / "outside");
  CHECK(after.st_mode == before.st_mode);
  CHECK(after.st_uid == before.st_uid);
  CHECK(after.st_mtim.tv_sec == before.st_mtim.tv_sec);

  ops.set_mode(root.fd(), "file", 06751);
  CHECK((stat_of(tmp / "tree/file").st_mode & 07777) == 06751);
  ops.set_mtime(root.fd(), "file", 4'200'000'000, 1);  // after 2038
  CHECK(stat_of(tmp / "tree/file").st_mtim.tv_sec == 4'200'000'000);
  ops.set_mode(root.fd(), "", 0750);  // the directory itself
  CHECK((stat_of(tmp / "tree").st_mode & 07777) == 0750);
  ops.set_mtime(root.fd(), "", 1, 2);
  CHECK(stat_of(tmp / "tree").st_mtim.tv_nsec == 2);
}

TEST_CASE("replace leaves one name, also between links to one inode", "[entry_ops]") {
  const TempDir tmp;
  tmp.write("a", "x");
  RootDir root(tmp.path());
  const EntryOps ops;
  ops.link(root.fd(), "a", root.fd(), "b");
  ops.replace(root.fd(), "b", root.fd(), "a");
  CHECK(ops.look(root.fd(), "a"));
  CHECK_FALSE(ops.look(root.fd(), "b"));
  CHECK(stat_of(tmp / "a").st_nlink == 1);
  tmp.write("c", "y");
  CHECK(errno_of([&] { ops.move_new(root.fd(), "c", root.fd(), "a"); }) == EEXIST);
}

TEST_CASE("remove_all takes everything, however deep and closed, and follows nothing",
          "[entry_ops]") {
  const TempDir tmp;
  ::chmod(tmp.path().c_str(), 0777);
  tmp.write("outside", "x");
  std::filesystem::create_directory(tmp / "kept");
  tmp.write("kept/file", "x");
  const auto failed = test::as_user(test::kPlainUser, [&tmp] {
    const EntryOps ops;
    RootDir root(tmp.path());
    ops.make_directory(root.fd(), "top", 0755);
    RootDir::Dir top = root.open("top");
    ops.make_symlink("../kept", top.get(), "link");
    ops.make_symlink("../outside", top.get(), "link2");
    // 300 levels of 30 bytes: longer than PATH_MAX, deeper than remove_all holds descriptors.
    base::Fd at(::openat(top.get(), ".", O_RDONLY | O_DIRECTORY));
    const std::string name(30, 'd');
    for (int i = 0; i < 300; ++i) {
      ops.make_directory(at.get(), name, 0755);
      ops.make_node(at.get(), "file", S_IFREG | 0644, 0);
      base::Fd below(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY));
      if (i % 7 == 0) ops.set_mode(at.get(), "", i % 2 ? 0555 : 0000);
      at = std::move(below);
    }
    if (!ops.remove_all(root.fd(), "top")) throw std::runtime_error("not there");
    if (ops.look(root.fd(), "top")) throw std::runtime_error("still there");
    if (ops.remove_all(root.fd(), "top")) throw std::runtime_error("removed nothing");
  });
  CHECK(failed == "");
  CHECK(std::filesystem::exists(tmp / "kept/file"));
  CHECK(std::filesystem::exists(tmp / "outside"));
}

TEST_CASE("every change passes the probe first", "[entry_ops]") {
  struct Stop : std::runtime_error {
    Stop() : std::runtime_error("stop") {}
  };
  struct Stopping : Probe {
    void mutating(const char*, const proto::Bytes&) override { throw Stop(); }
  } probe;
  const TempDir tmp;
  tmp.write("file", "x");
  std::filesystem::create_directory(tmp / "dir");
  RootDir root(tmp.path());
  const EntryOps ops(&probe);
  const int d = root.fd();
  CHECK_THROWS_AS(ops.set_owner(d, "file", 1, 1), Stop);
  CHECK_THROWS_AS(ops.set_mode(d, "file", 0), Stop);
  CHECK_THROWS_AS(ops.set_mtime(d, "file", 0, 0), Stop);
  CHECK_THROWS_AS(ops.make_directory(d, "new", 0755), Stop);
  CHECK_THROWS_AS(ops.make_symlink("x", d, "new"), Stop);
  CHECK_THROWS_AS(ops.make_node(d, "new", S_IFIFO | 0600, 0), Stop);
  CHECK_THROWS_AS(ops.link(d, "file", d, "new"), Stop);
  CHECK_THROWS_AS(ops.replace(d, "file", d, "new"), Stop);
  CHECK_THROWS_AS(ops.move_new(d, "file", d, "new"), Stop);
  CHECK_THROWS_AS(ops.exchange(d, "file", d, "dir"), Stop);
  CHECK_THROWS_AS(ops.unlink(d, "file"), Stop);
  CHECK_THROWS_AS(ops.remove_directory(d, "dir"), Stop);
  CHECK_THROWS_AS(ops.remove_all(d, "dir"), Stop);
  CHECK(ops.list(d).size() == 2);
}
