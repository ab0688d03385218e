// What an operator does not want on a mirror: links that lead out, setuid bits, devices.
#include "services/tree/safe_links.hpp"
#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>

#include <array>
#include <cstdio>

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
namespace fs = std::filesystem;

namespace {

const std::array kTargets{
    "/etc/passwd", "..",       "../..",      "../top",   "../../top", ".",           "./x",
    "a/b",         "a/..",     "a/../b",     "a/../../b", "../a/..",  "..//top",     ".//..",
    "../dir/one",  "./../x",   "deep",       "deep/",    "...",       "../.../y",    "a//b",
    "././..",      "../../..", "..a/../b",   "a/.",      "/",
};

void linked_tree(Mirror& m) {
  m.file("top", "1");
  m.file("dir/one", "2");
  m.file("dir/deep/two", "3");
  for (const char* where : {"", "dir/", "dir/deep/"})
    for (std::size_t i = 0; i < kTargets.size(); ++i)
      fs::create_symlink(kTargets[i], m.a() + "/" + where + "link" + std::to_string(i));
}

std::size_t symlinks(const std::string& path) {
  std::size_t count = 0;
  for (const auto& each : fs::recursive_directory_iterator(path)) count += each.is_symlink();
  return count;
}

std::string run(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
  std::string said;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) said.append(buffer, n);
  ::pclose(pipe);
  return said;
}

}  // namespace

TEST_CASE("symlinks that lead out are left out as rsync leaves them out", "[mirror][limits]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  linked_tree(m);
  m.settings.metadata.safe_links = true;
  auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  // What rsync takes is the oracle.
  fs::create_directory(tmp / "c");
  run("rsync -aHAX -@-1 --safe-links '" + m.a() + "/' '" + tmp.path() + "/c/'");
  CHECK(oracle(tmp / "c", m.b()) == "");
  const auto left_out = symlinks(m.a()) - symlinks(m.b());
  CHECK(left_out > 20);
  CHECK(result.fidelity.limits == left_out);
  CHECK(m.verify().equal());
  CHECK(m.sync().state == State::Unchanged);

  SECTION("one that is put there is no part of the tree") {
    fs::create_symlink("/etc", m.b() + "/dir/link0");
    const auto found = m.verify();
    REQUIRE(found.count == 2);  // it, and the directory's time
    CHECK(found.differences[0].path == "dir/link0");
    CHECK(m.repair().state == State::Committed);
    CHECK(m.verify().equal());
  }
  SECTION("they come and go with what they lead to") {
    fs::remove(m.a() + "/dir/link0");
    fs::create_symlink("one", m.a() + "/dir/link0");
    fs::remove(m.a() + "/dir/link6");
    fs::create_symlink("/one", m.a() + "/dir/link6");
    fs::rename(m.a() + "/dir/deep", m.a() + "/deep");
    result = m.publish_and_sync();
    CHECK(result.fidelity.limits == symlinks(m.a()) - symlinks(m.b()));
    run("rsync -aHAX -@-1 --delete --delete-excluded --safe-links '" + m.a() + "/' '" + tmp.path() + "/c/'");
    fs::remove(tmp / "c/dir/link6");  // which rsync keeps as it was
    run("rsync -aHAX -@-1 --safe-links '" + m.a() + "/' '" + tmp.path() + "/c/'");
    CHECK(oracle(tmp / "c", m.b()) == "");
    CHECK(m.verify().equal());
  }
  SECTION("when they are wanted they come") {
    m.settings.metadata.safe_links = false;
    result = m.sync();
    CHECK(result.state == State::Committed);
    CHECK(result.fidelity.full());
    CHECK(m.differences() == "");
    m.settings.metadata.safe_links = true;
    CHECK(m.sync().fidelity.limits == left_out);
    CHECK(oracle(tmp / "c", m.b()) == "");
  }
}

TEST_CASE("a link group of which a name is left out", "[mirror][limits]") {
  const auto links = [](const std::string& path) {
    struct stat st;
    REQUIRE(::lstat(path.c_str(), &st) == 0);
    return st.st_nlink;
  };
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("dir/x", "1");
  fs::create_symlink("../x", m.a() + "/dir/safe");
  fs::create_hard_link(m.a() + "/dir/safe", m.a() + "/unsafe");
  fs::create_hard_link(m.a() + "/dir/safe", m.a() + "/dir/also");
  m.settings.metadata.safe_links = true;
  auto result = m.publish_and_sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.fidelity.limits == 1);
  CHECK(!fs::exists(fs::symlink_status(m.b() + "/unsafe")));
  CHECK(links(m.b() + "/dir/safe") == 2);
  fs::remove(m.a() + "/dir/also");
  result = m.publish_and_sync();
  CHECK(result.state == State::Committed);
  CHECK(links(m.b() + "/dir/safe") == 1);
  CHECK(m.verify().equal());
}

TEST_CASE("files without setuid and setgid bits, a tree without devices", "[mirror][limits]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (const char* name : {"suid", "sgid", "plain"}) m.file(name, name);
  fs::create_directory(m.a() + "/dir");
  REQUIRE(::chmod((m.a() + "/suid").c_str(), 04755) == 0);
  REQUIRE(::chmod((m.a() + "/sgid").c_str(), 02711) == 0);
  REQUIRE(::chmod((m.a() + "/dir").c_str(), 03775) == 0);
  const bool root = ::geteuid() == 0;
  if (root) REQUIRE(::mknod((m.a() + "/device").c_str(), S_IFCHR | 0600, 0x0103) == 0);
  m.settings.metadata.nosuid = true;
  m.settings.metadata.devices = false;
  auto result = m.publish_and_sync();
  CHECK(result.state == State::Committed);
  CHECK(!result.repaired);
  CHECK(result.fidelity.limits == 2);
  CHECK(result.fidelity.devices == (root ? 1 : 0));
  const auto mode = [&](const char* name) {
    struct stat st;
    REQUIRE(::lstat((m.b() + "/" + name).c_str(), &st) == 0);
    return st.st_mode & 07777;
  };
  CHECK(mode("suid") == 0755);
  CHECK(mode("sgid") == 0711);
  CHECK(mode("dir") == 03775);
  CHECK(m.verify().equal());

  // Somebody sets the bit the origin has and this mirror has not.
  REQUIRE(::chmod((m.b() + "/suid").c_str(), 04755) == 0);
  const auto found = m.verify();
  REQUIRE(found.count == 1);
  CHECK(found.differences[0].path == "suid");
  CHECK(m.repair().state == State::Committed);
  CHECK(mode("suid") == 0755);
  CHECK(m.verify().equal());

  REQUIRE(::chmod((m.a() + "/plain").c_str(), 06711) == 0);
  result = m.publish_and_sync();
  CHECK(result.fidelity.limits == 3);
  CHECK(mode("plain") == 0711);
  m.settings.metadata.nosuid = false;
  m.settings.metadata.devices = root;
  result = m.sync();
  CHECK(result.fidelity.full());
  CHECK(m.differences() == "");
}

TEST_CASE("more names of one file than the mirror's file system takes", "[mirror][names]") {
  constexpr std::uint64_t kTaken = 65'000;  // by ext4; tmpfs has no limit
  constexpr std::uint64_t kNames = kTaken + 7;
  const TempDir tmp;
  const TempDir roomy("/dev/shm");
  struct statfs here, there;
  REQUIRE(::statfs(tmp.path().c_str(), &here) == 0);
  REQUIRE(::statfs(roomy.path().c_str(), &there) == 0);
  if (here.f_type != EXT4_SUPER_MAGIC || there.f_type != TMPFS_MAGIC) {
    WARN("needs tmpfs in /dev/shm and ext4 in " + tmp.path());
    return;
  }
  const auto name = [](const std::string& top, std::uint64_t i) {
    return top + "/names/" + std::to_string(i);
  };
  fs::create_directory(roomy / "names");
  roomy.write("names/0", "one content");
  roomy.write("other", "another");
  std::uint64_t linked = 1;
  while (linked < kNames &&
         ::link(name(roomy.path(), 0).c_str(), name(roomy.path(), linked).c_str()) == 0)
    ++linked;
  REQUIRE(linked == kNames);
  Mirror m(tmp.path());
  m.publish_from(roomy.path(), false);
  auto result = m.sync();
  INFO(describe(result));
  // All that can be there is there, the rest has a name.
  CHECK(result.state == State::Incomplete);
  CHECK(result.missing_count == kNames - kTaken);
  REQUIRE(!result.missing.empty());
  CHECK(result.missing[0].reason.find("Too many links") != std::string::npos);
  struct stat st;
  REQUIRE(::stat(name(m.b(), 0).c_str(), &st) == 0);
  CHECK(st.st_nlink == kTaken);
  CHECK(fs::exists(m.b() + "/other"));

  // The origin has fewer. New names come before old ones go, so it takes a second turn.
  for (std::uint64_t i = 0; i < kNames - kTaken; ++i) fs::remove(name(roomy.path(), i));
  m.publish_from(roomy.path(), false);
  CHECK(m.sync().state == State::Incomplete);
  result = m.sync();
  CHECK(result.state == State::Committed);
  CHECK(oracle(roomy.path(), m.b()) == "");
}
