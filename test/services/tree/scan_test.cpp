#include "test/services/tree/scan_fixture.hpp"

#include "test/support/as_user.hpp"

#include <atomic>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using test::DiskTree;
using Fixture = test::ScanFixture;

namespace {

void make_rich(const Fixture& f) {
  f.write("dir/deep/er/file", "content");
  f.write("dir/empty", "");
  f.write(std::string(255, 'n'), "long name");
  f.write("odd \xff\xfe\n name", "not UTF-8");
  f.write("past", "before 1970");
  f.set_mtime("past", -123'456, 123'456'789);
  f.write("future", "after 2038");
  f.set_mtime("future", 5'000'000'000, 1);
  std::filesystem::create_symlink("../nowhere", f.at("dir/link"));
  f.set_mtime("dir/link", 77, 5);
  std::filesystem::create_directory(f.at("hollow"));
  f.write("links/a", "linked");
  std::filesystem::create_hard_link(f.at("links/a"), f.at("links/b"));
  std::filesystem::create_hard_link(f.at("links/a"), f.at("dir/deep/c"));
  if (::mkfifo(f.at("fifo").c_str(), 0640) != 0) base::throw_errno("mkfifo");
  f.write("locked/inside", "x");
  f.write("same1", "equal contents");
  f.write("same2", "equal contents");
  f.set_mtime("dir", 1'000'000, 999'999'999);
  if (::chmod(f.at("locked").c_str(), 0555) != 0) base::throw_errno("chmod");
}

}  // namespace

TEST_CASE("a first scan sees what is there", "[scan]") {
  Fixture f(GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None));
  make_rich(f);
  const ScanReport report = f.all();
  CHECK(report.problem_count == 0);
  CHECK(report.files_hashed == 10);  // three names are one inode
  f.check_equal();
  f.commit();
  // Every content is held.
  if (f.kind != StoreKind::None) {
    f.index->each_directory("", [&](const DirectoryRow& row) {
      const auto node = proto::decode_node(row.node);
      for (const auto& e : node->entries)
        if (e.type == proto::EntryType::File) CHECK(f.store->read(e.content, e.size));
      return true;
    });
  }
  // And nothing is read twice, though our links have moved every ctime. (Files just written are.)
  f.all();
  f.all();
  const ScanReport again = f.all();
  CHECK(again.files_hashed == 0);
  CHECK(again.entries == report.entries);
  f.check_equal();
  CHECK_FALSE(f.index->has_pending());
  const ScanReport careful = f.all(true);
  CHECK(careful.files_hashed == 0);
}

TEST_CASE("an empty tree is a tree", "[scan]") {
  Fixture f;
  CHECK(f.all().root == ScanReport::Root::Present);
  f.check_equal();
}

TEST_CASE("a root that is gone or emptied changes nothing", "[scan]") {
  Fixture f;
  f.write("a", "a");
  f.all();
  f.commit();
  std::filesystem::remove(f.at("a"));
  CHECK(f.all().root == ScanReport::Root::Emptied);
  CHECK(f.some({""}).root == ScanReport::Root::Emptied);
  CHECK_FALSE(f.index->has_pending());
  std::filesystem::remove(f.root);
  CHECK(f.all().root == ScanReport::Root::Gone);
  CHECK_FALSE(f.index->has_pending());
  f.write("b", "b");
  f.all();
  f.check_equal();
}

TEST_CASE("edits within a tick are not missed", "[scan]") {
  Fixture f;
  for (int i = 0; i < 200; ++i) f.write(std::to_string(i), "aaaa");
  f.all();
  // Same size, and mostly the same stamp as the content that was just hashed.
  for (int i = 0; i < 200; ++i) f.write(std::to_string(i), "bbbb");
  f.all();
  f.check_equal();
}

TEST_CASE("an edit that puts size and mtime back is seen by ctime", "[scan]") {
  Fixture f;
  f.write("f", "aaaa");
  f.set_mtime("f", 1000, 0);
  f.all();
  ::usleep(20'000);
  f.write("f", "bbbb");
  f.set_mtime("f", 1000, 0);
  CHECK(f.some({""}).files_hashed == 1);
  f.check_equal();
}

TEST_CASE("a moved directory is not read again", "[scan]") {
  Fixture f;
  for (int i = 0; i < 50; ++i) {
    f.write("old/sub/" + std::to_string(i), std::to_string(i));
    f.set_mtime("old/sub/" + std::to_string(i), 1000 + i, 0);
  }
  f.write("other/f", "x");
  f.all();
  f.commit();
  std::filesystem::rename(f.at("old"), f.at("other/new"));
  const ScanReport report = GENERATE(true, false) ? f.all() : f.some({"", "other"});
  CHECK(report.files_hashed == 0);
  f.check_equal();
}

TEST_CASE("only what was asked for is looked at", "[scan]") {
  Fixture f;
  f.write("a/x/f", "1");
  f.write("b/g", "2");
  f.all();
  f.commit();
  f.write("a/x/f", "changed");
  f.write("b/g", "changed, but nobody says so");
  ScanReport report = f.some({"a/x"});
  CHECK(report.directories == 1);
  CHECK(report.files_hashed == 1);
  f.some({"b"});
  f.check_equal();
  SECTION("a new file moves its directory's mtime, which its parent's entry has") {
    f.commit();
    f.write("a/x/new", "n");
    CHECK(f.some({"a/x"}).directories == 1);
    f.check_equal();
  }
  SECTION("new directories are gone into") {
    f.commit();
    f.write("c/d/e/f", "deep");
    CHECK(f.some({""}).files_hashed == 1);
    f.check_equal();
  }
  SECTION("a directory the index does not know is found from above") {
    f.commit();
    f.write("c/d/e/f", "deep");
    f.some({"c/d/e"});
    f.check_equal();
  }
  SECTION("a directory that went is seen from above") {
    f.commit();
    std::filesystem::remove_all(f.at("a"));
    f.some({"a/x"});
    f.check_equal();
  }
}

TEST_CASE("hard links come and go", "[scan]") {
  Fixture f;
  f.write("a/x", "content");
  f.write("b/other", "other");
  f.all();
  f.commit();
  CHECK(f.index->hard_links().table().groups.empty());

  // Only the directory of the new name is told of.
  std::filesystem::create_hard_link(f.at("a/x"), f.at("b/y"));
  f.some({"b"});
  CHECK(f.index->hard_links().table() == proto::LinksTable{{{"a/x", "b/y"}}});
  f.check_equal();
  f.commit();

  std::filesystem::rename(f.at("b/y"), f.at("b/z"));
  f.some({"b"});
  f.check_equal();
  f.commit();

  // Changed through one name, seen under the other.
  REQUIRE(::chmod(f.at("b/z").c_str(), 0600) == 0);
  f.some({"b"});
  f.check_equal();
  f.commit();

  // Broken by a writer that replaces.
  f.write("b/.new", "content");
  std::filesystem::rename(f.at("b/.new"), f.at("b/z"));
  f.some({"b"});
  CHECK(f.index->hard_links().table().groups.empty());
  f.check_equal();
  f.commit();
  f.all();
  f.check_equal();

  // A link from outside the tree is not a link in it, but somebody may write through it.
  std::filesystem::create_hard_link(f.at("b/other"), f.tmp / "outside");
  f.all();
  CHECK(f.index->hard_links().table().groups.empty());
  f.check_equal();
  f.commit();
  f.all();
  CHECK(f.all().files_hashed == 0);
  CHECK(f.all(true).files_hashed == 1);
}

TEST_CASE("files, directories and links take each other's names", "[scan]") {
  Fixture f;
  f.write("flip/f", "x");
  f.write("flop", "y");
  f.all();
  f.commit();
  std::filesystem::remove_all(f.at("flip"));
  f.write("flip", "now a file");
  std::filesystem::remove(f.at("flop"));
  f.write("flop/g", "now a directory");
  f.some({""});
  f.check_equal();
  f.commit();
  std::filesystem::remove_all(f.at("flop"));
  std::filesystem::create_symlink("flip", f.at("flop"));
  f.all();
  f.check_equal();
}

TEST_CASE("what cannot be read is not deleted", "[scan]") {
  if (::geteuid() != 0) return;
  Fixture f;
  f.write("dir/sub/f", "old");
  f.write("dir/g", "old");
  REQUIRE(::chmod(f.tmp.path().c_str(), 0777) == 0);
  std::filesystem::permissions(f.root, std::filesystem::perms::all);
  const auto as_nobody = [&](const std::function<void(Fixture&)>& part) {
    return test::as_user(test::kPlainUser, [&] {
      Fixture g(StoreKind::None);
      std::filesystem::remove_all(g.root);
      g.root = f.root;
      part(g);
    });
  };
  std::string said = as_nobody([&](Fixture& g) {
    const auto fail = [](const std::string& what) { throw std::runtime_error(what); };
    g.all();
    g.commit();
    const auto before = g.index->newest()->record.tree_hash;
    // The parent's process is root and stays so: the modes are changed by it.
    if (g.all().problem_count != 0) fail("problems at first");
    (void)before;
  });
  CHECK(said == "");

  // One index, through the whole story, as an ordinary user who owns the tree.
  for (const char* path : {"", "/dir", "/dir/sub", "/dir/sub/f", "/dir/g"})
    REQUIRE(::chown((f.root + path).c_str(), test::kPlainUser, test::kPlainUser) == 0);
  said = as_nobody([&](Fixture& g) {
    const auto need = [](bool good, const char* what) {
      if (!good) throw std::runtime_error(what);
    };
    g.all();
    g.commit();
    const auto before = g.index->directory("dir")->id;
    g.write("dir/new", "also new");
    ::chmod(g.at("dir/sub").c_str(), 0);
    ::chmod(g.at("dir/g").c_str(), 0);
    std::filesystem::create_directory(g.at("dir/secret"));
    ::chmod(g.at("dir/secret").c_str(), 0);
    g.write("dir/unread", "x");
    ::chmod(g.at("dir/unread").c_str(), 0);
    const ScanReport report = g.some({"dir"}, {"dir"});
    need(report.problem_count == 4, "four problems");
    need(report.kept == 4, "four kept");
    g.index->seal_pending().value();
    const auto row = g.index->latest("dir");
    const auto node = proto::decode_node(row->node).value();
    need(row->id != before, "the new file is there");
    need(node.find("new") != nullptr, "new");
    need(node.find("sub")->mode == 0755, "sub as it was");
    need(node.find("g")->mode == 0644, "g as it was");
    need(node.find("g")->content == proto::sha256("old"), "g's content");
    need(node.find("secret") == nullptr, "secret left out");
    need(node.find("unread") == nullptr, "unread left out");
    need(g.index->latest("dir/sub").has_value(), "sub's row");
    g.commit();
    // Once it can be read again, all is as it should be.
    for (const char* path : {"dir/sub", "dir/secret"}) ::chmod(g.at(path).c_str(), 0700);
    for (const char* path : {"dir/g", "dir/unread"}) ::chmod(g.at(path).c_str(), 0600);
    need(g.some({"dir"}).problem_count == 0, "no problems any more");
    const auto top = g.index->seal_pending().value();
    need(top.entry == DiskTree(g.root).root, "equal in the end");
  });
  CHECK(said == "");
}

TEST_CASE("names being written are left out until they settle", "[scan]") {
  Fixture f;
  f.settings.settle = std::chrono::seconds(1000);
  f.write("done", "x");
  f.write(".done.a1B2c3", "half");
  f.write(".~tmp~/done", "waits");
  f.write(".profile", "not temporary");
  ScanReport report = f.all();
  CHECK(report.in_flight == 2);
  CHECK(report.again == std::vector<Bytes>{""});
  const auto names = [&] {
    std::string all;
    const auto node = proto::decode_node(f.index->latest("")->node);
    for (const auto& e : node->entries) all += std::string(e.name) + " ";
    return all;
  };
  CHECK(names() == ".profile done ");
  // Old, but open.
  f.settings.settle = std::chrono::nanoseconds(-1);
  {
    const base::Fd open(::open(f.at(".done.a1B2c3").c_str(), O_WRONLY));
    CHECK(f.all().in_flight == 2);
  }
  report = f.all();
  CHECK(report.in_flight == 1);
  CHECK(names() == ".done.a1B2c3 .profile done ");

  // What is in the tree by such a name does not leave it for being changed or replaced.
  f.settings.settle = std::chrono::seconds(1000);
  REQUIRE(::chmod(f.at(".done.a1B2c3").c_str(), 0600) == 0);
  CHECK(f.all().in_flight == 1);
  CHECK(names() == ".done.a1B2c3 .profile done ");
  f.write("other", "another");
  std::filesystem::rename(f.at("other"), f.at(".done.a1B2c3"));
  CHECK(f.all().in_flight == 1);
  CHECK(names() == ".done.a1B2c3 .profile done ");
}

TEST_CASE("what is excluded is not there", "[scan]") {
  Fixture f;
  f.write("keep/a.o", "x");
  f.write("keep/a.c", "x");
  f.write("keep/special.o", "x");
  f.write("build/x", "x");
  f.write("sub/build/x", "x");
  f.settings.filter = PathFilter({"*.o", "/build"}, {"special.o"});
  f.all();
  const auto skip = [](const std::string& path) {
    return path == "keep/a.o" || path.starts_with("build");
  };
  const DiskTree disk(f.root, skip);
  CHECK(f.index->seal_pending()->entry == disk.root);
  f.commit();
  f.settings.filter = {};
  f.all();
  f.check_equal();
}

TEST_CASE("files of other sizes are not there", "[scan]") {
  Fixture f;
  f.write("small", "x");
  f.write("dir/medium", std::string(100, 'x'));
  f.write("dir/large", std::string(1000, 'x'));
  f.settings.filter = PathFilter({}, {}, {2, 500});
  f.all();
  const auto skip = [](const std::string& path) { return path == "small" || path == "dir/large"; };
  CHECK(f.index->seal_pending()->entry == DiskTree(f.root, skip).root);
  f.commit();
  f.write("dir/medium", std::string(501, 'x'));
  f.write("dir/large", std::string(500, 'x'));
  f.all();
  const auto other = [](const std::string& path) { return path == "small" || path == "dir/medium"; };
  CHECK(f.index->seal_pending()->entry == DiskTree(f.root, other).root);
}

TEST_CASE("our own folder is no part of the tree, and its name nowhere is", "[scan]") {
  Fixture f;
  f.write(".mirrorbus/objects", "ours");
  f.write("a/.mirrorbus", "theirs");
  const ScanReport report = f.all();
  REQUIRE(report.problem_count == 1);
  CHECK(report.problems[0].kind == ScanProblem::Kind::BadName);
  CHECK(report.problems[0].path == "a/.mirrorbus");
  CHECK(f.index->seal_pending()->entry == DiskTree(f.root).root);
}

TEST_CASE("a scan that was cut off is not taken for a tree", "[scan]") {
  Fixture f;
  for (int i = 0; i < 300; ++i) f.write("d" + std::to_string(i) + "/f", std::to_string(i));
  f.all();
  f.commit();
  for (int i = 0; i < 300; ++i) f.write("d" + std::to_string(i) + "/f", "again");
  std::atomic<bool> stop = true;
  WorkControl control;
  control.cancel = &stop;
  CHECK_THROWS_AS(Scanner(*f.index, *f.store, f.root, f.work->fd(), f.settings).all(false, control),
                  Cancelled);
  f.index->set_setting(kScanSetting, "unfinished");
  CHECK(f.some({"d0"}).directories == 301);
  f.check_equal();
}
