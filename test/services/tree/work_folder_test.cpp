#include "services/tree/work_folder.hpp"

#include "test/support/as_user.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>

using namespace mirrorbus;
using tree::WorkFolder;
using test::TempDir;

namespace {
struct stat stat_of(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) base::throw_errno(path);
  return st;
}
}  // namespace

TEST_CASE("the work folder lies beside the tree and leaves it alone", "[work_folder]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  const auto before = stat_of(tmp / "tree");
  const WorkFolder work(tmp / "tree", "kernel", "", WorkFolder::Mount::Same);
  CHECK(work.path() == std::filesystem::canonical(tmp.path()) / ".mirrorbus-kernel");
  CHECK(work.same_mount());
  CHECK_FALSE(work.inside_tree());
  CHECK(work.warning().empty());
  CHECK((stat_of(work.path()).st_mode & 07777) == 0700);
  CHECK(stat_of(tmp / "tree").st_ctim.tv_nsec == before.st_ctim.tv_nsec);
  CHECK(std::filesystem::is_directory(work.subfolder("packs")));
}

TEST_CASE("one process at a time", "[work_folder]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  {
    const WorkFolder work(tmp / "tree", "t", "", WorkFolder::Mount::Same);
    CHECK_THROWS_WITH(WorkFolder(tmp / "tree", "t", "", WorkFolder::Mount::Same),
                      Catch::Contains("in use by another process"));
  }
  CHECK_NOTHROW(WorkFolder(tmp / "tree", "t", "", WorkFolder::Mount::Same));
}

TEST_CASE("where the parent is not ours the tree itself must do", "[work_folder]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  REQUIRE(::chmod(tmp.path().c_str(), 0755) == 0);
  if (::geteuid() != 0) return;
  REQUIRE(::chown((tmp / "tree").c_str(), test::kPlainUser, test::kPlainUser) == 0);
  CHECK(test::as_user(test::kPlainUser, [&] {
          const WorkFolder work(tmp / "tree", "t", "", WorkFolder::Mount::Same);
          if (!work.inside_tree() || !work.path().ends_with("/tree/.mirrorbus"))
            throw std::runtime_error("not inside");
          if (!work.warning().starts_with("working inside the tree"))
            throw std::runtime_error("silent");
        }) == "");
  REQUIRE(::chown((tmp / "tree").c_str(), 0, 0) == 0);
  std::filesystem::remove_all(tmp / "tree/.mirrorbus");
  CHECK_THAT(test::as_user(test::kPlainUser,
                           [&] { WorkFolder(tmp / "tree", "t", "", WorkFolder::Mount::Same); }),
             Catch::Contains("no place to work"));
}

TEST_CASE("another mount is refused, unless links are not needed", "[work_folder]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  if (::access("/dev/shm", W_OK) != 0) return;
  if (stat_of("/dev/shm").st_dev == stat_of(tmp.path()).st_dev) return;
  const std::string elsewhere = "/dev/shm/mirrorbus-test-" + std::to_string(::getpid());
  CHECK_THROWS_WITH(WorkFolder(tmp / "tree", "t", elsewhere, WorkFolder::Mount::Same),
                    Catch::Contains("another mount"));
  CHECK_FALSE(std::filesystem::exists(elsewhere));
  CHECK_FALSE(WorkFolder(tmp / "tree", "t", elsewhere, WorkFolder::Mount::Any).same_mount());
  std::filesystem::remove_all(elsewhere);
}

TEST_CASE("where the tree is a link, others may pass through the folder", "[work_folder]") {
  const TempDir tmp;
  const WorkFolder work(tmp / "tree", "t", "", WorkFolder::Mount::Link);
  CHECK_FALSE(std::filesystem::exists(tmp / "tree"));
  CHECK(work.path() == std::filesystem::canonical(tmp.path()).string() + "/.mirrorbus-t");
  CHECK((stat_of(work.path()).st_mode & 07777) == 0711);
  // Another tree of that name is beside it.
  const WorkFolder other(tmp / "other", "t", "", WorkFolder::Mount::Link);
  CHECK(other.path().ends_with("/.mirrorbus-t-other"));
}

TEST_CASE("somebody else's folder is not taken", "[work_folder]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  std::filesystem::create_directory(tmp / "theirs");
  std::filesystem::create_directory_symlink("theirs", tmp / ".mirrorbus-t");
  if (::geteuid() == 0) {
    REQUIRE(::chown((tmp / "theirs").c_str(), test::kPlainUser, 0) == 0);
    CHECK_THROWS_WITH(WorkFolder(tmp / "tree", "t", tmp / "theirs", WorkFolder::Mount::Same),
                      Catch::Contains("belongs to another user"));
  }
  // A symlink in the default place is not followed; inside the tree is what is left.
  CHECK(WorkFolder(tmp / "tree", "t", "", WorkFolder::Mount::Same).inside_tree());
}
