// Extended attributes and ACLs on a mirror.
#include "services/tree/target_tree.hpp"
#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/as_user.hpp"
#include "test/support/xattrs.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
namespace fs = std::filesystem;

namespace {

// Wherever attributes can be.
void marked_tree(Mirror& m) {
  m.file("top", "1");
  m.file("dir/one", "2");
  m.file("dir/deep/two", "3");
  m.file("closed/file", "4");
  fs::create_hard_link(m.a() + "/dir/one", m.a() + "/dir/deep/linked");
  set_xattr(m.a(), "user.root", "r");
  set_xattr(m.a() + "/top", "user.a", "1");
  set_xattr(m.a() + "/dir/one", "user.a", "1");
  set_xattr(m.a() + "/dir/one", "user.long", std::string(2000, 'l'));
  set_xattr(m.a() + "/dir/deep", kDefaultAcl, acl(7, 1000, 5, 5, 7, 0));
  set_xattr(m.a() + "/dir/deep/two", kAccessAcl, acl(6, 1000, 4, 0, 4, 0));
  set_xattr(m.a() + "/closed/file", "user.c", "c");
  fs::permissions(m.a() + "/closed/file", fs::perms(0444));
  fs::permissions(m.a() + "/closed", fs::perms(0555));
}

void good(const Mirror& m, const tree::SyncResult& result) {
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(!result.repaired);
  CHECK(result.fidelity.full());
  CHECK(m.differences() == "");
}

}  // namespace

TEST_CASE("a tree that is fetched is gone through once, attributes included", "[mirror][xattrs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  marked_tree(m);
  const TreeSnapshot& tree = m.publish();
  const base::Fd folder(::open(tmp.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  tree::BlobCache cache(folder.get(), "blobs");
  tree::TargetTree known(m.index(), cache);
  REQUIRE(known.fetch(m.source, tree.record.tree_hash, tree.record.counts, m.control));
  // As if its nodes had come out of a pack.
  const auto links = known.links_bytes(), owners = known.owners_bytes();
  REQUIRE(known.set(tree.root, links, owners));
  REQUIRE(known.fetch_xattr_sets(m.source, m.control));

  cache.clear();
  tree::TargetTree fetched(m.index(), cache);
  REQUIRE(fetched.fetch(m.source, tree.record.tree_hash, tree.record.counts, m.control));
  cache.clear();  // nothing of it is read again
  REQUIRE(fetched.fetch_xattr_sets(m.source, m.control));
  const auto sorted = [](std::vector<proto::Hash> sets) {
    std::ranges::sort(sets);
    return sets;
  };
  CHECK(sorted(fetched.new_xattr_sets()) == sorted(known.new_xattr_sets()));
  CHECK(fetched.new_xattr_sets().size() == 6);
}

TEST_CASE("a mirror has the origin's extended attributes", "[mirror][xattrs]") {
  for (const bool packs : {false, true}) {
    const TempDir tmp;
    Mirror m(tmp.path());
    if (packs) m.make_packs();
    marked_tree(m);
    good(m, m.publish_and_sync());
    CHECK(m.verify().equal());

    using Work = std::function<void(const std::string& a)>;
    const auto changed = [&](const char* what, const Work& work) {
      INFO(what);
      work(m.a());
      const auto asked = m.source.nodes_sent;
      good(m, m.publish_and_sync());
      CHECK(xattrs_of(m.b() + "/dir/one") == xattrs_of(m.a() + "/dir/one"));
      if (packs) CHECK(m.source.nodes_sent == asked);  // all came with the pack
    };
    changed("value", [](const auto& a) { set_xattr(a + "/dir/one", "user.a", "2"); });
    changed("removed", [](const auto& a) { remove_xattr(a + "/dir/one", "user.long"); });
    changed("last one removed", [](const auto& a) { remove_xattr(a + "/top", "user.a"); });
    changed("added", [](const auto& a) {
      set_xattr(a + "/top", kAccessAcl, acl(6, 7, 4, 0, 4, 4));
    });
    changed("mode with an ACL", [](const auto& a) {
      fs::permissions(a + "/top", fs::perms(0640));
    });
    changed("the root's", [](const auto& a) { set_xattr(a, "user.root", "other"); });
    changed("a directory's", [](const auto& a) { remove_xattr(a + "/dir/deep", kDefaultAcl); });
    changed("a new file where ACLs are inherited", [&](const auto& a) {
      set_xattr(a + "/dir", kDefaultAcl, acl(7, 1000, 5, 5, 7, 0));
      m.file("dir/new/file", "x");
    });
    changed("moved", [](const auto& a) {
      fs::rename(a + "/dir/one", a + "/dir/deep/moved");
      fs::copy(a + "/top", a + "/dir/one");
    });
    CHECK(m.verify().equal());
    CHECK(m.sync().state == State::Unchanged);
  }
}

TEST_CASE("root's attributes, of whatever can have them", "[mirror][xattrs]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("program", "#!");
  REQUIRE(::chown((m.a() + "/program").c_str(), 7, 8) == 0);
  set_xattr(m.a() + "/program", "security.capability",
            std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
  fs::create_symlink("program", m.a() + "/link");
  REQUIRE(::mknod((m.a() + "/device").c_str(), S_IFCHR | 0600, 0x0103) == 0);
  REQUIRE(::mkfifo((m.a() + "/fifo").c_str(), 0640) == 0);
  for (const char* name : {"/link", "/device", "/fifo", "/program", ""})
    set_xattr(m.a() + name, "trusted.t", name);
  good(m, m.publish_and_sync());
  for (const char* name : {"/link", "/device", "/fifo", "/program", ""})
    CHECK(xattrs_of(m.b() + name) == xattrs_of(m.a() + name));
  // A change of owner takes capabilities away: they are set afterwards.
  REQUIRE(::chown((m.a() + "/program").c_str(), 9, 9) == 0);
  set_xattr(m.a() + "/program", "security.capability",
            std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
  good(m, m.publish_and_sync());
  CHECK(xattrs_of(m.b() + "/program").size() == 2);
}

TEST_CASE("verify finds attributes that were changed, added or removed", "[mirror][xattrs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  marked_tree(m);
  good(m, m.publish_and_sync());
  using Work = std::function<void(const std::string& path)>;
  const auto damaged = [&](const std::string& path, const Work& work) {
    work(m.b() + (path.empty() ? "" : "/" + path));
    const auto found = m.verify();
    INFO(path);
    CHECK(found.count == 1);
    REQUIRE(!found.differences.empty());
    CHECK(found.differences[0].path == path);
    const auto mended = m.repair();
    CHECK(mended.state == State::Committed);
    CHECK(m.differences() == "");
    CHECK(m.verify().equal());
  };
  damaged("top", [](const auto& path) { set_xattr(path, "user.a", "x"); });
  damaged("top", [](const auto& path) { set_xattr(path, "user.more", "x"); });
  damaged("top", [](const auto& path) { remove_xattr(path, "user.a"); });
  damaged("dir/deep", [](const auto& path) { remove_xattr(path, kDefaultAcl); });
  damaged("dir/deep/two", [](const auto& path) { remove_xattr(path, kAccessAcl); });
  damaged("", [](const auto& path) { set_xattr(path, "user.root", "x"); });
  damaged("", [](const auto& path) { set_xattr(path, "user.more", "x"); });
}

TEST_CASE("an attribute damaged between apply and check is repaired", "[mirror][xattrs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  marked_tree(m);
  ScriptedProbe probe;
  m.settings.probe = &probe;
  good(m, m.publish_and_sync());
  set_xattr(m.a() + "/top", "user.a", "2");
  set_xattr(m.a() + "/dir", "user.d", "1");
  m.publish();
  probe.on_step = [&, done = false](tree::Probe::Step step) mutable {
    if (step != tree::Probe::Step::Applied || std::exchange(done, true)) return;
    set_xattr(m.b() + "/top", "user.a", "damaged");
    set_xattr(m.b() + "/dir", "user.e", "added");
  };
  const auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.differences() == "");
}

TEST_CASE("attributes that are not carried are told of, and taken up later", "[mirror][xattrs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  marked_tree(m);
  if (::geteuid() == 0) set_xattr(m.a() + "/top", "trusted.t", "t");
  m.settings.metadata.xattrs = tree::XattrMode::None;
  auto result = m.publish_and_sync();
  CHECK(result.state == State::Committed);
  // root, top, dir/one and its other name, dir/deep, dir/deep/two, closed/file
  CHECK(result.fidelity.xattrs == 7);
  CHECK(m.verify().equal());
  CHECK(xattrs_of(m.b() + "/top").empty());

  m.settings.metadata.xattrs = tree::XattrMode::User;
  result = m.sync();
  CHECK(result.state == State::Committed);
  CHECK(result.fidelity.xattrs == (::geteuid() == 0 ? 1 : 0));
  CHECK(xattrs_of(m.b() + "/top").size() == 1);
  CHECK(m.verify().equal());
  // The count follows what comes and goes.
  fs::remove(m.a() + "/top");
  m.file("more", "x");
  if (::geteuid() == 0)
    for (const char* name : {"/more", "/dir", "/dir/one"})
      set_xattr(m.a() + name, "trusted.t", "t");
  result = m.publish_and_sync();
  CHECK(result.fidelity.xattrs == (::geteuid() == 0 ? 4 : 0));
  m.settings.metadata.xattrs = tree::XattrMode::All;
  result = m.sync();
  if (::geteuid() == 0) good(m, result);
}

TEST_CASE("attributes a plain user may not set are counted", "[mirror][xattrs][plain]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  fs::permissions(tmp.path(), fs::perms::all);
  {
    Mirror m(tmp.path());
    marked_tree(m);
    fs::remove_all(tmp / "work");
    for (const char* name : {"/top", "/dir", "/dir/deep/two"})
      set_xattr(m.a() + name, "trusted.t", "t");
    // Snapshots are made by whoever runs the test part, who cannot see trusted.*: made here.
    m.publish(true);
    CHECK(as_user(kPlainUser, [&] {
            fs::create_directories(tmp / "work");
            for (const auto mode : {tree::XattrMode::User, tree::XattrMode::All}) {
              m.settings.metadata = {};
              m.settings.metadata.xattrs = mode;
              const auto result = m.sync();
              if (result.state != State::Committed) throw std::runtime_error(describe(result));
              if (result.fidelity.xattrs != 3)
                throw std::runtime_error("xattrs " + std::to_string(result.fidelity.xattrs));
              const auto verified = m.verify();
              if (!verified.equal())
                throw std::runtime_error("verify: " + verified.differences[0].path);
              if (m.sync().state != State::Unchanged) throw std::runtime_error("not unchanged");
            }
          }) == "");
  }
  for (const char* name : {"/top", "/dir", "/dir/deep/two"})
    remove_xattr(tmp / "a" + name, "trusted.t");
  CHECK(oracle(tmp / "a", tmp / "b", "--no-owner --no-group") == "");
}

TEST_CASE("a set that is not what its hash says, or no set, is refused", "[mirror][xattrs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  marked_tree(m);
  const auto id = proto::sha256(proto::encode_xattr_set({{"user.a", "1"}}));
  m.publish();
  m.source.damaged.insert(id);
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  CHECK(!m.source.complaints.empty());
  m.source.damaged.clear();
  good(m, m.sync());

  // Signed, and nonsense all the same.
  auto broken = m.snapshot();
  const proto::Bytes nonsense = "mbx\x01";
  broken.root.entry.xattrs = proto::sha256(nonsense);
  broken.blobs.emplace(*broken.root.entry.xattrs, nonsense);
  broken.record.parent = proto::version_hash(broken.record);
  ++broken.record.number;
  broken.seal();
  m.source.add(broken);
  const auto result = tree::MirrorTree(m.settings, m.index())
                          .bring_to({broken.version()}, m.source, m.control);
  CHECK(result.state == State::Refused);
  CHECK(m.differences() == "");
}
