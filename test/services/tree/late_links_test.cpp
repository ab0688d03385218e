#include "services/tree/fs_clock.hpp"
#include "services/tree/hard_links.hpp"
#include "test/services/tree/origin_fixture.hpp"
#include "test/support/xattrs.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using State = OriginTree::Closing::State;

namespace {

struct Fixture : test::OriginFixture {
  Fixture() : OriginFixture(StoreKind::Hardlink) {
    settings.scan.xattrs = XattrMode::User;
    std::filesystem::create_directories(settings.path + "/dir");
    // The smallest one, with which each start tries whether links can be taken.
    std::ofstream(at("sample"), std::ios::binary);
    open();
  }
  std::string at(const std::string& name) const { return OriginFixture::at("dir/" + name); }
  void write(const std::string& name, std::string_view content) const {
    OriginFixture::write("dir/" + name, content);
  }
  State close() {
    // So that no time stamp is doubted.
    FsClock(base::Fd(::open(tmp.path().c_str(), O_RDONLY | O_DIRECTORY)).get()).tick();
    return OriginFixture::close().state;
  }
  void tidy() {
    while (origin->tidy()) {
    }
  }
  std::uintmax_t links(const std::string& name) const {
    return std::filesystem::hard_link_count(at(name));
  }
  // Inodes that the store has for itself.
  long alone() const {
    long count = 0;
    for (const auto& each :
         std::filesystem::recursive_directory_iterator(origin->work().path() + "/objects"))
      count += each.is_regular_file() && each.hard_link_count() == 1;
    return count;
  }
  std::uint64_t hashed_by_a_scan() { return origin->scan_all(false).files_hashed; }
};

}  // namespace

TEST_CASE("what came again under another inode is linked when there is time", "[late_links]") {
  Fixture f;
  f.write("a", "content a");
  f.write("b", "content b");
  REQUIRE(f.close() == State::Closed);
  REQUIRE(f.links("a") == 2);
  f.write("a", "content a");
  f.write("b", "content b");
  REQUIRE(f.close() == State::Closed);  // the times differ
  CHECK(f.links("a") == 1);
  CHECK(f.alone() == 2);

  SECTION("by the same run") { f.tidy(); }
  SECTION("by the next") {
    f.open();
    CHECK(f.hashed_by_a_scan() == 1);  // the sample
    f.tidy();
  }
  SECTION("once the tree is there again") {
    const bool mount_point = GENERATE(false, true);
    const std::string away = f.tmp / "away";
    std::filesystem::rename(f.settings.path, away);
    if (mount_point) std::filesystem::create_directory(f.settings.path);
    f.tidy();
    if (mount_point) std::filesystem::remove(f.settings.path);
    std::filesystem::rename(away, f.settings.path);
    CHECK(f.alone() == 2);
    f.tidy();
  }
  SECTION("but not where nothing is known of it any more") {
    std::filesystem::remove_all(f.at("b"));
    f.tidy();
    CHECK(f.alone() == 1);  // what b was, for who has yet to get it
    f.write("b", "other");
    REQUIRE(f.close() == State::Closed);
    f.tidy();
    CHECK(f.links("b") == 2);
    return;
  }
  CHECK(f.links("a") == 2);
  CHECK(f.links("b") == 2);
  CHECK(f.alone() == 0);
  // The index knows of it: nothing is read again, and no link is taken for somebody else's.
  CHECK(f.hashed_by_a_scan() == 0);
  CHECK(f.origin->index().hard_links().table().groups.empty());
  f.open();
  CHECK(f.origin->scan_all(true).files_hashed == 1);  // the sample
  CHECK(f.origin->close_version(f.now, true).state == State::Unchanged);
}

TEST_CASE("a file that changed before its late link is not taken for what it was", "[late_links]") {
  Fixture f;
  f.write("f", "before");
  REQUIRE(f.close() == State::Closed);
  f.write("f", "before");
  REQUIRE(f.close() == State::Closed);
  SECTION("in place") { std::ofstream(f.at("f"), std::ios::binary) << "behind"; }
  SECTION("replaced") { f.write("f", "behind"); }
  SECTION("its mode") { std::filesystem::permissions(f.at("f"), std::filesystem::perms(0600)); }
  f.tidy();
  CHECK(f.links("f") == 1);
  CHECK(f.alone() == 1);
  CHECK(f.close() == State::Closed);
  f.tidy();
  CHECK(f.links("f") == 2);
  CHECK(f.hashed_by_a_scan() == 0);
}

TEST_CASE("a third inode of one content is linked like the second", "[late_links]") {
  Fixture f;
  for (int i = 0; i < 3; ++i) {
    f.write("f", "same");
    REQUIRE(f.close() == State::Closed);
  }
  f.tidy();
  CHECK(f.links("f") == 2);
  CHECK(f.alone() == 0);
  for (int i = 0; i < 2; ++i) {
    f.write("f", "same");
    REQUIRE(f.close() == State::Closed);
    CHECK(f.links("f") == 1);
    f.tidy();
    CHECK(f.links("f") == 2);
    CHECK(f.alone() == 0);
  }
}

TEST_CASE("an inode with two names is linked at once", "[late_links]") {
  Fixture f;
  f.write("a", "same");
  REQUIRE(f.close() == State::Closed);
  f.write("a", "same");
  std::filesystem::create_hard_link(f.at("a"), f.at("b"));
  REQUIRE(f.close() == State::Closed);
  CHECK(f.links("a") == 3);
  f.tidy();
  CHECK(f.links("a") == 3);
  CHECK(f.alone() == 0);
  CHECK(f.hashed_by_a_scan() == 0);
}

TEST_CASE("attributes are read again after a late link", "[late_links]") {
  Fixture f;
  const auto write = [&] {
    f.write("f", "same");
    test::set_xattr(f.at("f"), "user.colour", "green");
  };
  write();
  REQUIRE(f.close() == State::Closed);
  write();
  REQUIRE(f.close() == State::Closed);
  const auto hash = f.origin->index().newest()->record.tree_hash;
  f.tidy();
  CHECK(f.links("f") == 2);
  CHECK(f.close() == State::Unchanged);
  CHECK(f.origin->index().newest()->record.tree_hash == hash);
  test::set_xattr(f.at("f"), "user.colour", "red");
  CHECK(f.close() == State::Closed);
}
