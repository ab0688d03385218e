#include "services/tree/scan.hpp"

#include "services/tree/hard_links.hpp"
#include "services/tree/watch.hpp"
#include "services/tree/work_folder.hpp"
#include "test/services/tree/disk_tree.hpp"
#include "test/support/as_user.hpp"
#include "test/support/environment.hpp"
#include "test/support/temp_dir.hpp"

#include <random>
#include <set>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mount.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using test::DiskTree;
using test::TempDir;

namespace {

struct Fixture {
  TempDir tmp;
  std::string root = tmp / "tree";
  ScanSettings settings;
  std::unique_ptr<WorkFolder> work;
  std::unique_ptr<Index> index;
  std::unique_ptr<ContentStore> store;
  StoreKind kind;
  std::uint64_t number = 0;

  explicit Fixture(StoreKind k = StoreKind::Hardlink) : kind(k) {
    std::filesystem::create_directory(root);
    settings.settle = std::chrono::nanoseconds(0);
  }
  void open() {
    if (work) return;
    work = std::make_unique<WorkFolder>(root, "t", "", WorkFolder::Mount::Same);
    index = std::make_unique<Index>(work->path() + "/index", Index::Options{.durable = false});
    store = std::make_unique<ContentStore>(work->path() + "/objects", root, kind);
  }
  std::string at(const std::string& path) const { return root + "/" + path; }
  void write(const std::string& path, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(at(path)).parent_path());
    std::ofstream(at(path), std::ios::binary | std::ios::trunc) << content;
  }
  void set_mtime(const std::string& path, std::int64_t s, long ns) const {
    const timespec times[2] = {{0, UTIME_OMIT}, {s, ns}};
    if (::utimensat(AT_FDCWD, at(path).c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      base::throw_errno(path);
  }
  ScanReport all(bool careful = false) {
    open();
    return Scanner(*index, *store, root, work->fd(), settings).all(careful);
  }
  ScanReport some(const std::vector<Bytes>& dirs, const std::vector<Bytes>& trees = {}) {
    open();
    return Scanner(*index, *store, root, work->fd(), settings).some(dirs, trees);
  }
  // As if the index had been written when the device was another one.
  void pretend_another_device() {
    const std::uint64_t dev = index->root()->stat.dev, other = dev + 77;
    index->hard_links().move(dev, other);
    std::vector<DirectoryRow> rows;
    index->each_directory({}, [&](const DirectoryRow& row) {
      rows.push_back(row);
      return true;
    });
    for (DirectoryRow& row : rows) {
      for (auto& stat : row.stats) stat.dev = other;
      index->put_stats(row.path, row.stats);
    }
    RootRow top = *index->root();
    top.stat.dev = other;
    index->stage_root(top);
    REQUIRE(index->seal_pending());
  }
  // Makes what was scanned the committed version.
  void commit() {
    const RootRow top = index->seal_pending().value();
    StoredVersion v;
    v.root = {top.entry, proto::sha256(proto::encode_links(index->hard_links().table())), proto::sha256("o")};
    v.record.tree = proto::TreeId::from_bytes("0123456789abcdef");
    v.record.number = ++number;
    v.record.tree_hash = proto::tree_hash(v.root);
    v.record.counts = index->latest_totals().counts;
    index->commit_version(v, proto::encode_links(index->hard_links().table()), "o");
  }
  void check_equal() const {
    const DiskTree disk(root);
    const auto top = index->seal_pending();
    REQUIRE(top);
    for (const auto& [path, node] : disk.nodes) {
      const auto row = index->latest(path);
      INFO(path);
      REQUIRE(row);
      const auto want = proto::decode_node(node), have = proto::decode_node(row->node);
      REQUIRE(have);
      REQUIRE(row->stats.size() == have->entries.size());
      CHECK(have->entries.size() == want->entries.size());
      for (const auto& e : want->entries) {
        INFO(e.name);
        const proto::Entry* entry = have->find(e.name);
        REQUIRE(entry);
        CHECK((*entry == e));
      }
      CHECK((row->node == node));
    }
    CHECK(top->entry == disk.root);
    CHECK(index->hard_links().table() == disk.links);
    CHECK(index->latest_totals().counts == disk.counts);
  }
  struct stat stat_of(const std::string& path) const {
    struct stat st {};
    if (::lstat(at(path).c_str(), &st) != 0) base::throw_errno(path);
    return st;
  }
};

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

TEST_CASE("what lay in a filesystem that is no longer mounted is not deleted", "[scan]") {
  Fixture f;
  f.settings.one_file_system = false;
  f.write("beside", "x");
  std::filesystem::create_directories(f.at("nested"));
  const std::string at = f.at("nested");
  const auto mount = [&] { return ::mount("none", at.c_str(), "tmpfs", 0, nullptr) == 0; };
  if (::geteuid() != 0 || !mount()) {
    WARN("not tested: mounting is not permitted here");
    return;
  }
  f.write("nested/deep/file", "on the other filesystem");
  CHECK(f.all().problem_count == 0);
  f.check_equal();
  f.commit();
  const auto entry_of = [&](const Bytes& path) {
    const auto row = f.index->latest(proto::parent_path(path));
    const auto node = row ? proto::decode_node(row->node) : proto::Node();
    const auto* entry = node->find(proto::last_name(path));
    return entry ? std::optional(*entry) : std::nullopt;
  };
  const auto nested = entry_of("nested"), file = entry_of("nested/deep/file");
  REQUIRE(file);

  REQUIRE(::umount2(at.c_str(), MNT_DETACH) == 0);
  for (int looks = 0; looks < 2; ++looks) {
    const ScanReport report = looks == 0 ? f.all() : f.some({"", "nested"});
    CHECK(report.kept == 1);
    REQUIRE(report.problem_count == 1);
    CHECK(report.problems[0].kind == ScanProblem::Kind::OtherMount);
    CHECK(report.problems[0].path == "nested");
    CHECK(entry_of("nested/deep/file") == file);
    CHECK(entry_of("nested")->content == nested->content);
  }
  REQUIRE(mount());
  f.write("nested/deep/file", "on another one");
  CHECK(f.all().problem_count == 0);
  f.check_equal();
  REQUIRE(::umount2(at.c_str(), MNT_DETACH) == 0);
  // Then it is meant.
  std::filesystem::remove(at);
  CHECK(f.all().problem_count == 0);
  f.check_equal();
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

TEST_CASE("a filesystem under another device number is not read again", "[scan]") {
  Fixture f;
  f.write("a/f", "x");
  f.write("a/g", "y");
  std::filesystem::create_hard_link(f.at("a/g"), f.at("h"));
  f.set_mtime("a/f", 1000, 0);
  f.set_mtime("a/g", 1000, 0);
  f.all();
  f.commit();
  const std::uint64_t dev = f.index->root()->stat.dev;
  f.pretend_another_device();

  const ScanReport report = f.some({"a"});
  CHECK(report.directories == 2);  // everything was gone through
  CHECK(report.files_hashed == 0);
  f.check_equal();
  CHECK_FALSE(f.index->has_pending());
  CHECK(f.index->directory("a")->stats[0].dev == dev);
}

TEST_CASE("a filesystem under another device number whose root has changed is all looked at", "[scan]") {
  Fixture f;
  f.write("a/deep/f", "x");
  f.write("b/g", "y");
  f.all();
  f.commit();
  f.pretend_another_device();
  f.write("top", "new");
  f.write("a/deep/f", "changed");
  f.write("b/new", "new");
  f.some({"b"});
  f.check_equal();
  f.write("a/later", "and noticed from now on");
  f.some({"a"});
  f.check_equal();
}

TEST_CASE("a look at a filesystem under another device number may be cut off", "[scan]") {
  Fixture f;
  constexpr int kOuter = 1500;  // several commits
  for (int i = 0; i < kOuter; ++i) f.write("d" + std::to_string(i) + "/s/e", "");
  f.all();
  f.commit();
  f.pretend_another_device();
  f.write("top", "new");
  for (int i = 0; i < kOuter; i += 7) f.write("d" + std::to_string(i) + "/s/f", "new");
  std::atomic<bool> stop = false;
  WorkControl control;
  control.cancel = &stop;
  int looks = 0;
  control.progress = [&](const Progress&) { stop = ++looks > 2500; };
  CHECK_THROWS_AS(Scanner(*f.index, *f.store, f.root, f.work->fd(), f.settings).all(false, control),
                  Cancelled);
  REQUIRE(f.index->has_pending());
  f.some({});
  f.check_equal();
}

namespace {

// What somebody does to a tree between two looks, at random; and the directories where it was done.
class RandomEdits {
 public:
  RandomEdits(const Fixture& fixture, unsigned seed) : f_(fixture), random_(seed) {}

  std::size_t pick(std::size_t n) { return random_() % n; }
  void edit();
  std::set<Bytes> touched() { return std::exchange(touched_, {}); }

 private:
  std::string directory() {
    std::string path;
    for (std::size_t depth = pick(4); depth > 0; --depth)
      path = proto::join_path(path, "d" + std::to_string(pick(4)));
    return path;
  }
  void touch(const Bytes& path) {
    for (Bytes up = path;; up = proto::parent_path(up)) {
      touched_.insert(up);
      if (up.empty()) break;
    }
  }
  const Fixture& f_;
  std::mt19937 random_;
  std::set<Bytes> touched_;
};

void RandomEdits::edit() {
  namespace fs = std::filesystem;
  const std::string parent = directory(),
                    path = proto::join_path(parent, "n" + std::to_string(pick(8)));
  const std::string other = directory(),
                    to = proto::join_path(other, "n" + std::to_string(pick(8)));
  std::error_code error;
  fs::create_directories(f_.at(parent), error);
  if (error) return;
  fs::create_directories(f_.at(other), error);
  touch(parent);
  touch(other);
  switch (pick(9)) {
    case 0:
      fs::remove_all(f_.at(path), error);
      break;
    case 1:
      if (!parent.empty()) fs::remove_all(f_.at(parent), error);
      break;
    case 2:
      fs::rename(f_.at(path), f_.at(to), error);
      break;
    case 3:
      if (!parent.empty()) fs::rename(f_.at(parent), f_.at(to), error);
      break;
    case 4:
      fs::create_hard_link(f_.at(path), f_.at(to), error);
      break;
    case 5:
      fs::remove_all(f_.at(path), error);
      fs::create_symlink("t" + std::to_string(pick(3)), f_.at(path), error);
      break;
    case 6:
      if (fs::exists(fs::symlink_status(f_.at(path))) && !fs::is_symlink(f_.at(path)))
        fs::permissions(f_.at(path), static_cast<fs::perms>(0700 | pick(64)), error);
      break;
    default:
      if (fs::is_directory(fs::symlink_status(f_.at(path)))) break;
      if (pick(2)) fs::remove(f_.at(path), error);
      if (fs::is_symlink(fs::symlink_status(f_.at(path)))) break;
      std::ofstream(f_.at(path)) << std::string(pick(4), static_cast<char>('a' + pick(3)));
  }
}

unsigned seed_of_test() {
  return static_cast<unsigned>(test::number_from("TEST_SEED", std::random_device{}()));
}

// `watched`: nothing is known of what was edited but what a watch of that kind told.
void random_rounds(unsigned seed, StoreKind store, WatchKind watched, int rounds) {
  CAPTURE(seed, to_string(watched));
  Fixture f(store);
  RandomEdits edits(f, seed);
  f.write("seed", "x");
  f.all();
  std::unique_ptr<Watch> watch;
  if (watched != WatchKind::None) watch = watch_tree(f.root, nullptr, watched, true).watch;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t n = 1 + edits.pick(12); n > 0; --n) edits.edit();
    const std::set<Bytes> touched = edits.touched();
    if (watch) {
      const Dirty dirty = watch->drain();
      dirty.all ? f.all() : f.some(dirty.directories, dirty.trees);
    } else if (edits.pick(4) == 0) {
      f.all();
    } else {
      f.some({touched.begin(), touched.end()});
    }
    f.check_equal();
    if (edits.pick(2)) f.commit();
  }
}

}  // namespace

TEST_CASE("random changes, scanned in part, give what a fresh scan gives", "[scan]") {
  random_rounds(seed_of_test(), GENERATE(StoreKind::Hardlink, StoreKind::None), WatchKind::None,
                30);
}

// By hand and in the slow suite; MIRRORBUS_SEEDS of them from TEST_SEED on.
TEST_CASE("random changes, noticed by a watch, give what a fresh scan gives", "[.seeds]") {
  const auto seeds = static_cast<unsigned>(test::number_from("MIRRORBUS_SEEDS", 1));
  for (unsigned seed = seed_of_test(), last = seed + seeds; seed != last; ++seed) {
    random_rounds(seed, StoreKind::Hardlink, WatchKind::Inotify, 5);
    random_rounds(seed, StoreKind::Hardlink, WatchKind::Auto, 5);
  }
}
