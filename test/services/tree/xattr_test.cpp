// Extended attributes and ACLs at an origin: what a scan takes of them, and when it looks again.
#include "services/tree/index_xattrs.hpp"
#include "services/tree/origin_tree.hpp"
#include "test/services/tree/disk_tree.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;

namespace {

struct Origin {
  explicit Origin(const std::string& top, tree::XattrMode mode = tree::XattrMode::All) {
    fs::create_directories(top + "/tree");
    settings.name = "t";
    settings.path = top + "/tree";
    settings.durable = false;
    settings.scan.xattrs = mode;
    reopen();
  }
  void reopen() {
    origin.reset();
    origin = std::make_unique<tree::OriginTree>(settings);
  }
  std::string at(const std::string& name) const { return settings.path + "/" + name; }
  void file(const std::string& name, const std::string& content) const {
    std::ofstream(at(name)) << content;
  }
  tree::StoredVersion close() {
    const auto closing = origin->close_version(base::WallTime{}, true);
    REQUIRE(closing.version);
    return *closing.version;
  }
  tree::StoredVersion scan_and_close() {
    const auto report = origin->scan_all(false);
    REQUIRE(report.problem_count == 0);
    return close();
  }
  proto::Entry disk() const { return DiskTree(settings.path, {}, true).root; }

  tree::OriginSettings settings;
  std::unique_ptr<tree::OriginTree> origin;
};

}  // namespace

TEST_CASE("a scan takes extended attributes", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path());
  fs::create_directories(o.at("dir/below"));
  o.file("plain", "1");
  o.file("dir/one", "2");
  fs::create_hard_link(o.at("dir/one"), o.at("two"));
  o.scan_and_close();
  CHECK(o.origin->index().xattr_sets().count() == 0);

  const auto same_as_disk = [&](const char* what) {
    INFO(what);
    const auto version = o.scan_and_close();
    CHECK(version.root.entry == o.disk());
    CHECK(o.origin->index().newest()->root.entry == o.disk());
  };
  set_xattr(o.at("plain"), "user.a", "1");
  same_as_disk("a file's");
  set_xattr(o.at("dir/one"), "user.a", "1");
  same_as_disk("a linked file's");
  CHECK(o.origin->index().xattr_sets().count() == 1);
  set_xattr(o.at("dir"), kDefaultAcl, acl(7, 1000, 5, 5, 7, 0));
  set_xattr(o.at("dir/below"), kAccessAcl, acl(7, 1000, 5, 5, 7, 0));
  same_as_disk("directories'");
  set_xattr(o.settings.path, "user.root", "r");
  same_as_disk("the root's");
  if (::geteuid() == 0) {
    fs::create_symlink("x", o.at("link"));
    set_xattr(o.at("link"), "trusted.t", "t");
    same_as_disk("a symlink's");
  }
  remove_xattr(o.at("plain"), "user.a");
  same_as_disk("one less");
}

TEST_CASE("a look at some directories takes their own attributes, too", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path());
  fs::create_directories(o.at("dir/below"));
  o.scan_and_close();
  set_xattr(o.at("dir/below"), "user.a", "1");
  o.origin->scan_some({"dir/below"}, {});
  CHECK(o.close().root.entry == o.disk());
  set_xattr(o.at("dir"), "user.a", "2");
  o.origin->scan_some({"dir", ""}, {});
  CHECK(o.close().root.entry == o.disk());
}

TEST_CASE("an attribute set within the tick of a scan is found by the next one", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path());
  fs::create_directories(o.at("dir"));
  // The clock's ticks are some milliseconds: of so many tries some fall into one.
  for (int i = 0; i < 50; ++i) {
    o.file("f" + std::to_string(i), std::to_string(i));
    o.origin->scan_all(false);
    set_xattr(o.at("f" + std::to_string(i)), "user.a", std::to_string(i));
    set_xattr(o.at("dir"), "user.a", std::to_string(i));
    o.origin->scan_all(false);
    REQUIRE(o.close().root.entry == o.disk());
  }
}

TEST_CASE("what is not looked at again has its attributes still", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path());
  o.file("a", "1");
  set_xattr(o.at("a"), "user.a", "1");
  o.scan_and_close();
  o.file("b", "2");
  const auto report = o.origin->scan_all(false);
  CHECK(report.files_hashed <= 2);
  CHECK(o.close().root.entry == o.disk());
}

TEST_CASE("a tree looked at under another setting is looked at again", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path(), tree::XattrMode::None);
  fs::create_directory(o.at("dir"));
  o.file("dir/a", "1");
  set_xattr(o.at("dir/a"), "user.a", "1");
  set_xattr(o.at("dir"), kAccessAcl, acl(7, 1000, 5, 5, 7, 0));
  const auto none = o.scan_and_close().root.entry;
  CHECK(none == DiskTree(o.settings.path).root);
  o.settings.scan.xattrs = tree::XattrMode::All;
  o.reopen();
  CHECK(o.scan_and_close().root.entry == o.disk());
  o.settings.scan.xattrs = tree::XattrMode::None;
  o.reopen();
  CHECK(o.scan_and_close().root.entry == none);
  if (::geteuid() != 0) return;
  set_xattr(o.at("dir"), "trusted.t", "1");
  o.settings.scan.xattrs = tree::XattrMode::User;
  o.reopen();
  const auto user = o.scan_and_close().root.entry;
  remove_xattr(o.at("dir"), "trusted.t");
  CHECK(user == o.disk());
}

TEST_CASE("sets that no retained version names are forgotten", "[xattrs]") {
  const TempDir tmp;
  Origin o(tmp.path());
  o.settings.retain.versions = 1;
  o.settings.gc_grace = {};
  o.reopen();
  o.file("a", "1");
  for (const char* value : {"1", "2", "3"}) {
    set_xattr(o.at("a"), "user.a", value);
    o.origin->mark_announced(o.scan_and_close().record.number, "");
  }
  CHECK(o.origin->index().xattr_sets().count() == 3);
  o.origin->retain(base::WallTime{});
  o.origin->collect_garbage(base::WallTime{});
  CHECK(o.origin->index().xattr_sets().count() == 1);
  const auto id = proto::sha256(proto::encode_xattr_set({{"user.a", "3"}}));
  CHECK(o.origin->index().blob(id).has_value());
}

TEST_CASE("what a mode carries", "[xattrs]") {
  using enum tree::XattrMode;
  CHECK(tree::carries(All, "user.x"));
  CHECK(tree::carries(All, "trusted.x"));
  CHECK(tree::carries(All, "security.capability"));
  CHECK(tree::carries(User, kAccessAcl));
  CHECK(tree::carries(User, kDefaultAcl));
  CHECK(!tree::carries(User, "trusted.x"));
  CHECK(!tree::carries(User, "security.selinux"));
  CHECK(!tree::carries(All, "system.nfs4_acl"));
  CHECK(!tree::carries(None, "user.x"));
}
