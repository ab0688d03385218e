#include "services/mirror/hooks.hpp"

#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>

#include <set>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;

namespace {

// While it lives, one more file may be open and not two.
class OneFile {
 public:
  OneFile() {
    if (::getrlimit(RLIMIT_NOFILE, &before_) != 0) base::throw_errno("getrlimit");
    const base::Fd next(::dup(STDIN_FILENO));
    if (!next) base::throw_errno("dup");
    const rlimit now{static_cast<rlim_t>(next.get()) + 1, before_.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &now) != 0) base::throw_errno("setrlimit");
  }
  ~OneFile() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  OneFile(const OneFile&) = delete;
  OneFile& operator=(const OneFile&) = delete;

 private:
  rlimit before_;
};

}  // namespace

TEST_CASE("what changed is written for hooks, for nobody else to read", "[hooks]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("goes", "1");
  m.file("moves", "2");
  m.file("d/there", "3");
  REQUIRE(m.publish_and_sync().state == tree::SyncResult::State::Committed);
  std::filesystem::remove(m.a() + "/goes");
  std::filesystem::rename(m.a() + "/moves", m.a() + "/moved");
  std::set<std::string> expected;
  // More than is written at once.
  for (int i = 1000; i < 5000; ++i) {
    const std::string name = std::to_string(i) + std::string(100, 'n');
    m.file("d/" + name, "x");
    expected.insert("d/" + name);
  }
  REQUIRE(m.publish_and_sync().state == tree::SyncResult::State::Committed);

  const std::string file = tmp / "changes";
  std::ofstream(file) << std::string(1'000'000, 'o');  // of the version before
  bool told;
  {
    const OneFile limit;
    told = mirror::write_changes(m.index(), 1, 2, file);
  }
  REQUIRE(told);

  std::ifstream in(file, std::ios::binary);
  std::set<std::string> added, rest;
  for (std::string op, path, to; std::getline(in, op, '\0') && std::getline(in, path, '\0');) {
    if (op == "move") REQUIRE(std::getline(in, to, '\0'));
    if (op == "add" && path.starts_with("d/"))
      added.insert(path);
    else
      rest.insert(op + " " + path + (op == "move" ? " " + to : ""));
  }
  CHECK(added == expected);
  CHECK(rest.contains("delete goes"));
  CHECK(rest.contains("move moves moved"));
  CHECK_FALSE(mirror::write_changes(m.index(), 2, 3, file));  // there is no 3

  std::filesystem::remove(file);
  const mode_t before = ::umask(0);
  CHECK(mirror::write_changes(m.index(), 1, 2, file));
  ::umask(before);
  CHECK(std::filesystem::status(file).permissions() == std::filesystem::perms(0600));
}
