#include "services/tree/origin_tree.hpp"

#include "services/tree/origin_content.hpp"
#include "services/tree/pack_reader.hpp"
#include "services/tree/tree_view.hpp"
#include "test/services/tree/disk_tree.hpp"
#include "test/services/tree/origin_fixture.hpp"
#include "test/support/oracle.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/xattrs.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using State = OriginTree::Closing::State;
using test::DiskTree;
using test::TempDir;

namespace {

struct Fixture : test::OriginFixture {
  explicit Fixture(StoreKind store = StoreKind::Hardlink) : OriginFixture(store) {}
  std::string pack(const StoredVersion& v) const {
    std::ifstream in(origin->pack_path(v.pack->sha256), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

void run(const std::string& script) { REQUIRE(std::system(script.c_str()) == 0); }

std::string text(std::size_t size) {
  std::string out;
  for (int i = 0; out.size() < size; ++i) out += "line " + std::to_string(i * 7919 % 1000) + "\n";
  out.resize(size);
  return out;
}

// Follows a version from the one before it, with nothing but its pack and the files of the old
// tree.
std::map<Hash, Bytes> follow(const Fixture& f, const std::optional<StoredVersion>& before,
                             const StoredVersion& v, const std::map<Hash, Bytes>& contents) {
  const Index& index = f.origin->index();
  TreeView base;
  if (before)
    base =
        TreeView([&](const Hash& id) { return index.blob(id); }, before->root,
                 index.blob(before->root.links).value(), index.blob(before->root.owners).value());
  auto reader = PackReader::open(PackBytes(f.pack(v)), &*v.pack);
  REQUIRE(reader);
  std::size_t nodes = 0;
  REQUIRE(reader->read_nodes(base, v.record.tree_hash,
                             [&](const Bytes&, const Hash& id, const Bytes& node) {
                               CHECK(index.blob(id) == node);
                               ++nodes;
                             }));
  std::map<Hash, Bytes> made;
  for (std::size_t i = 0; i < reader->groups().size(); ++i)
    REQUIRE(reader->read_group(
        i,
        [&](const FileRef& file) -> std::optional<Bytes> {
          const auto it = contents.find(file.hash);
          if (it == contents.end()) return std::nullopt;
          return it->second;
        },
        [&](const PackTarget& t, ByteView bytes) { made[t.file.hash] = bytes; }));
  return made;
}

}  // namespace

TEST_CASE("a tree becomes versions", "[origin]") {
  Fixture f(GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None));
  const std::string old = text(200'000);
  f.write("dir/changes", old);
  f.write("dir/stays", "stays");
  f.write("moves/x", "moved");
  std::filesystem::create_hard_link(f.at("dir/stays"), f.at("twin"));

  const StoredVersion first = f.closed();
  CHECK(first.record.number == 1);
  CHECK(first.record.parent.is_zero());
  CHECK_FALSE(first.record.tree.is_zero());
  CHECK_FALSE(first.announced);
  const auto update = proto::decode_update(first.body);
  REQUIRE(update);
  CHECK(update->record == first.record);
  CHECK(update->pack == first.pack);
  CHECK(update->changes_total == 3);
  CHECK(update->inline_pack == f.pack(first));
  const DiskTree disk(f.settings.path);
  CHECK(first.root.entry == disk.root);
  CHECK(first.record.counts == disk.counts);
  CHECK(f.origin->index().blob(first.root.links) == proto::encode_links(disk.links));
  const auto owners = proto::decode_owners(f.origin->index().blob(first.root.owners).value());
  REQUIRE(owners);
  if (::geteuid() == 0) CHECK(owners->users.at(0) == "root");
  CHECK(follow(f, std::nullopt, first, {}).empty());

  std::string changed = old;
  changed.replace(1000, 4, "CHNG");
  f.write("dir/changes", changed);
  f.write("small", "small");
  std::filesystem::rename(f.at("moves"), f.at("moved"));
  const StoredVersion second = f.closed();
  CHECK(second.record.number == 2);
  CHECK(second.record.parent == proto::version_hash(first.record));
  CHECK(second.record.tree == first.record.tree);
  CHECK(second.root.entry == DiskTree(f.settings.path).root);
  const auto made = follow(f, first, second, {{proto::sha256(old), old}});
  CHECK(made.contains(proto::sha256("small")));
  if (f.settings.store != StoreKind::None) {
    CHECK(made.at(proto::sha256(changed)) == changed);
    CHECK(second.pack->size < 1500);
  }
  const auto body = proto::decode_update(second.body);
  CHECK(body->changes == std::vector<proto::Change>{
                             {proto::ChangeOp::Change, "dir/changes", ""},
                             {proto::ChangeOp::Move, "moves", "moved"},
                             {proto::ChangeOp::Add, "small", ""}});
}

TEST_CASE("what was closed and not announced is announced after a restart", "[origin]") {
  Fixture f;
  f.write("a", "1");
  const StoredVersion first = f.closed();
  CHECK(f.close().state == State::Unchanged);
  CHECK(f.close().version->record.number == 1);
  f.open();
  CHECK(f.origin->unannounced() == std::vector<std::uint64_t>{1});
  CHECK(f.origin->newest()->body == first.body);
  CHECK(f.origin->close_version(f.now, true).state == State::Unready);
  f.origin->mark_announced(1, "sealed event");
  f.open();
  CHECK(f.origin->unannounced().empty());
  CHECK(f.origin->newest()->sealed == "sealed event");
  CHECK(f.close().state == State::Unchanged);
}

TEST_CASE("an old state again is a new version with an old tree hash", "[origin]") {
  Fixture f;
  const auto time = [&](long s) {
    const timespec t[2] = {{s, 0}, {s, 0}};
    for (const char* path : {"a", ""})
      REQUIRE(::utimensat(AT_FDCWD, f.at(path).c_str(), t, 0) == 0);
  };
  f.write("a", "1");
  time(1000);
  const auto first = f.closed();
  f.write("a", "2");
  time(2000);
  const auto second = f.closed();
  f.write("a", "1");
  time(1000);
  const auto third = f.closed();
  CHECK(third.record.number == 3);
  CHECK(third.record.tree_hash == first.record.tree_hash);
  CHECK(third.record.tree_hash != second.record.tree_hash);
  CHECK(proto::version_hash(third.record) != proto::version_hash(first.record));
}

TEST_CASE("hard links alone are a version", "[origin]") {
  Fixture f;
  f.write("a", "same");
  std::filesystem::create_hard_link(f.at("a"), f.at("b"));
  f.closed();
  // Two inodes with all the metadata of the one.
  struct stat st;
  REQUIRE(::lstat(f.at("a").c_str(), &st) == 0);
  struct stat root;
  REQUIRE(::lstat(f.settings.path.c_str(), &root) == 0);
  f.write("b", "same");
  const timespec t[2] = {st.st_atim, st.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, f.at("b").c_str(), t, 0) == 0);
  const timespec r[2] = {root.st_atim, root.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, f.settings.path.c_str(), r, 0) == 0);
  const auto second = f.closed();
  CHECK(f.origin->index().blob(second.root.links) == proto::encode_links({}));
  CHECK(follow(f, f.origin->index().version(1), second, {}).empty());
}

TEST_CASE("directories' times alone wait a minute", "[origin]") {
  Fixture f;
  f.write("d/x", "1");
  f.closed();
  const timespec t[2] = {{5, 0}, {5, 0}};
  REQUIRE(::utimensat(AT_FDCWD, f.at("d").c_str(), t, 0) == 0);
  CHECK(f.close(false).state == State::Deferred);
  f.now += std::chrono::minutes(1);
  CHECK(f.close(false).state == State::Closed);
  REQUIRE(::utimensat(AT_FDCWD, f.settings.path.c_str(), t, 0) == 0);
  CHECK(f.close(true).state == State::Closed);
}

TEST_CASE("no root, no version", "[origin]") {
  Fixture f;
  f.write("d/x", "1");
  const auto first = f.closed();
  std::filesystem::rename(f.settings.path, f.tmp / "away");
  CHECK(f.close().state == State::NoRoot);
  std::filesystem::create_directory(f.settings.path);
  CHECK(f.close().state == State::NoRoot);
  std::filesystem::remove(f.settings.path);
  std::filesystem::rename(f.tmp / "away", f.settings.path);
  const auto again = f.close();
  CHECK(again.state == State::Unchanged);
  CHECK(again.version->record.tree_hash == first.record.tree_hash);
}

TEST_CASE("what changed can be paged through", "[origin]") {
  Fixture f;
  f.write("seed", "x");
  f.closed();
  for (int i = 100; i < 400; ++i) f.write("d/" + std::to_string(i), std::to_string(i));
  f.write("d2/x", "1");
  f.closed();
  for (int i = 100; i < 400; ++i) f.write("d/" + std::to_string(i), std::to_string(i) + "!");
  const auto third = f.closed();
  const auto update = proto::decode_update(third.body);
  CHECK(update->changes.size() == 256);
  CHECK(update->changes_total == 301);  // and the root's own time
  CHECK(update->changes_more);
  std::vector<proto::Change> all;
  for (bool more = true; more;) {
    const auto page = f.origin->changes(3, all.size(), 100);
    REQUIRE(page);
    all.insert(all.end(), page->changes.begin(), page->changes.end());
    more = page->more;
  }
  CHECK(all.size() == 301);
  CHECK(std::equal(update->changes.begin(), update->changes.end(), all.begin()));
  CHECK(f.origin->changes(1, 0, 10)->changes.size() == 1);
  CHECK_FALSE(f.origin->changes(4, 0, 10));
}

TEST_CASE("old versions, packs and contents go when their time has come", "[origin]") {
  Fixture f;
  f.settings.retain.versions = 2;
  f.write("f", "content 0");
  f.write("stays", "stays");
  std::vector<StoredVersion> versions{f.closed()};
  for (int i = 1; i < 4; ++i) {
    f.write("f", "content " + std::to_string(i));
    versions.push_back(f.closed());
  }
  f.origin->retain(f.now);
  CHECK(f.origin->index().version_numbers().size() == 4);  // none is announced
  for (const auto& v : versions) f.origin->mark_announced(v.record.number, "s");
  f.origin->retain(f.now);
  CHECK(f.origin->index().version_numbers() == std::vector<std::uint64_t>{3, 4});
  CHECK_FALSE(std::filesystem::exists(f.origin->pack_path(versions[1].pack->sha256)));
  CHECK(std::filesystem::exists(f.origin->pack_path(versions[3].pack->sha256)));

  const auto held = [&](const std::string& content) {
    return f.origin->store().has(proto::sha256(content));
  };
  CHECK(f.origin->collect_garbage(f.now) == 0);  // the grace begins
  f.now += std::chrono::hours(23);
  CHECK(f.origin->collect_garbage(f.now) == 0);
  f.write("again", "content 1");  // no longer garbage
  f.origin->scan_all(false);
  f.now += std::chrono::hours(2);
  CHECK(f.origin->collect_garbage(f.now) == 1);
  CHECK_FALSE(held("content 0"));
  CHECK(held("content 1"));
  CHECK(held("content 2"));
  CHECK(held("content 3"));
  CHECK(held("stays"));

  f.settings.retain.versions = 100;
  f.settings.retain.time = std::chrono::hours(1);
  f.open();
  f.origin->retain(f.now);
  CHECK(f.origin->index().version_numbers() == std::vector<std::uint64_t>{4});
}

TEST_CASE("an origin that lost its state goes on where it was", "[origin]") {
  Fixture f;
  f.write("f", "1");
  const auto first = f.closed();
  CHECK_THROWS_WITH(f.origin->continue_after(first.record), Catch::Contains("later versions"));
  f.write("f", "2");
  const auto second = f.closed();
  f.origin.reset();
  std::filesystem::remove_all(f.tmp / ".mirrorbus-t");
  f.open();
  f.origin->continue_after(second.record);
  const auto next = f.closed();
  CHECK(next.record.number == 3);
  CHECK(next.record.tree == first.record.tree);
  CHECK(next.record.parent == proto::version_hash(second.record));
  CHECK(next.record.tree_hash == second.record.tree_hash);
}

TEST_CASE("an origin restored from an older copy goes on where others are", "[origin]") {
  Fixture f;
  f.write("f", "1");
  const auto first = f.closed();
  f.origin.reset();
  run("cp -a " + f.tmp / ".mirrorbus-t" + " " + f.tmp / "backup");
  f.open();
  f.write("f", "2");
  f.closed();
  f.write("f", "3");
  const auto third = f.closed();
  f.write("f", "1");
  f.origin.reset();
  run("rm -r " + f.tmp / ".mirrorbus-t" + " && cp -a " + f.tmp / "backup" + " " +
      f.tmp / ".mirrorbus-t");
  f.open();
  auto foreign = third.record;
  foreign.tree = {};
  CHECK_THROWS_WITH(f.origin->continue_after(foreign), Catch::Contains("another tree"));
  f.origin->continue_after(third.record);
  const auto next = f.closed();
  CHECK(next.record.number == 4);
  CHECK(next.record.parent == proto::version_hash(third.record));
  CHECK(f.close().state == State::Unchanged);
  f.write("f", "5");
  CHECK(f.closed().record.parent == proto::version_hash(next.record));
}

TEST_CASE("what is handed out is what it is called", "[origin]") {
  Fixture f(GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None));
  const std::string large(5'000'000, 'l');
  f.write("small", "small");
  f.write("large", large);
  f.write("old", "old content");
  const auto first = f.closed();
  f.write("old", "new content");
  const auto second = f.closed();
  OriginContent content(f.origin->index_file(), f.origin->work().path(), f.settings.path);

  const auto read = [&](const std::string& wanted) -> std::string {
    const auto file = content.object(proto::sha256(wanted));
    if (!file) return "gone";
    std::string bytes(file->size(), '\0');
    REQUIRE(::pread(file->fd.get(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
    return file->unchanged() ? bytes : "moved";
  };
  CHECK(read("small") == "small");
  CHECK(read("small") == "small");
  CHECK(read(large) == large);
  CHECK(read("new content") == "new content");
  CHECK(read("old content") == (f.settings.store == StoreKind::None ? "gone" : "old content"));
  CHECK(read("never there") == "gone");
  CHECK(content.pack(second.pack->sha256)->size() == second.pack->size);
  CHECK_FALSE(content.pack(proto::sha256("?")));
  CHECK(content.node(first.record.tree_hash));
  CHECK(content.node(first.root.entry.content));

  // Written in place, behind our back: what is left is gone, not wrong.
  ::usleep(20'000);
  for (const char* path : {"small", "large"}) {
    const base::Fd fd(::open(f.at(path).c_str(), O_WRONLY));
    REQUIRE(::pwrite(fd.get(), "X", 1, 1) == 1);
  }
  const bool linked = f.settings.store != StoreKind::Copy;
  CHECK(read("small") == (linked ? "gone" : "small"));
  CHECK(read(large) == (linked ? "gone" : large));
}

TEST_CASE("a pack does not wait for what changes meanwhile", "[origin]") {
  Fixture f(StoreKind::None);
  f.write("f", "small content");
  f.closed();
  f.write("g", "another");
  f.write("h", "third");
  f.origin->scan_all(false);
  f.write("g", "changed again before the pack was made");
  f.now += std::chrono::seconds(1);
  const auto closing = f.origin->close_version(f.now, true);
  REQUIRE(closing.state == State::Closed);
  CHECK(closing.pack.left_out == 1);
  const auto made = follow(f, f.origin->index().version(1), *closing.version, {});
  CHECK(made.contains(proto::sha256("third")));
  CHECK_FALSE(made.contains(proto::sha256("another")));
}

namespace {

// As an origin's owner goes back.
void go_back(Fixture& f, std::uint64_t number) {
  f.origin->roll_back(number);
  f.origin->scan_all(false);
  f.now += std::chrono::seconds(1);
}

}  // namespace

TEST_CASE("an origin goes back to an older version", "[origin][rollback]") {
  Fixture f(GENERATE(StoreKind::Hardlink, StoreKind::Copy));
  f.settings.scan.filter = PathFilter({"*.private"}, {});
  f.write("dir/changes", text(200'000));
  f.write("dir/goes", "goes");
  f.write("twin", "linked");
  std::filesystem::create_hard_link(f.at("twin"), f.at("dir/twin"));
  f.write("moves/x", text(5000));
  std::filesystem::create_symlink("somewhere", f.at("link"));
  f.write("kept.private", "not of the tree");
  const StoredVersion first = f.closed();
  run("cp -a " + f.at("") + " " + f.tmp / "copy");
  const auto untouched = std::filesystem::last_write_time(f.at("twin"));

  f.write("dir/changes", text(190'000));
  std::filesystem::remove(f.at("dir/goes"));
  std::filesystem::rename(f.at("moves"), f.at("moved"));
  std::filesystem::remove(f.at("dir/twin"));
  f.write("new/file", "new");
  run("ln -sfn elsewhere " + f.at("link"));
  const StoredVersion second = f.closed();

  go_back(f, 1);
  const auto closing = f.origin->close_version(f.now, true);
  REQUIRE(closing.state == State::Closed);
  CHECK(closing.version->record.number == 3);
  CHECK(closing.version->record.tree_hash == first.record.tree_hash);
  CHECK(closing.version->record.parent == proto::version_hash(second.record));
  CHECK(test::oracle(f.tmp / "tree", f.tmp / "copy") == "");
  CHECK(std::filesystem::last_write_time(f.at("twin")) == untouched);
  CHECK(std::filesystem::exists(f.at("kept.private")));
  CHECK(f.origin->unfinished_rollback() == 0);

  go_back(f, 2);
  CHECK(f.origin->close_version(f.now, true).version->record.tree_hash == second.record.tree_hash);
}

TEST_CASE("a rollback forgets no versions", "[origin][rollback]") {
  Fixture f;
  f.settings.retain.versions = 1000;
  constexpr std::uint64_t kVersions = 103;
  for (std::uint64_t i = 1; i <= kVersions; ++i) {
    f.write("file", std::to_string(i));
    f.closed();
  }
  go_back(f, 1);
  CHECK(f.origin->index().version_numbers().size() == kVersions);
}

TEST_CASE("a rollback that is cut off is finished later", "[origin][rollback]") {
  Fixture f;
  for (int i = 0; i < 3000; ++i) f.write("d/" + std::to_string(i), "old " + std::to_string(i));
  const StoredVersion first = f.closed();
  run("cp -a " + f.at("") + " " + f.tmp / "copy");
  for (int i = 0; i < 3000; ++i) f.write("d/" + std::to_string(i), "new " + std::to_string(i));
  f.closed();
  WorkControl control;
  control.progress = [](const Progress& now) {
    if (now.phase == Phase::Applying && now.files > 0) throw std::runtime_error("cut off");
  };
  REQUIRE_THROWS_WITH(f.origin->roll_back(1, control), "cut off");
  CHECK(test::oracle(f.tmp / "tree", f.tmp / "copy") != "");
  f.open();
  REQUIRE(f.origin->unfinished_rollback() == 1);
  go_back(f, 1);
  CHECK(f.origin->unfinished_rollback() == 0);
  CHECK(f.origin->close_version(f.now, true).version->record.tree_hash == first.record.tree_hash);
  CHECK(test::oracle(f.tmp / "tree", f.tmp / "copy") == "");
}

TEST_CASE("what cannot be brought back is refused, and nothing is touched", "[origin][rollback]") {
  Fixture f;
  f.settings.scan.filter = PathFilter({"*.private"}, {});
  f.write("lost", text(1000));
  f.write("same", "same");
  const StoredVersion first = f.closed();
  f.write("lost", text(900));
  f.write("later/file", "later");
  f.write("later/mine.private", "mine");
  f.closed();
  REQUIRE_THROWS_WITH(f.origin->roll_back(9), Catch::Contains("version 9 is not held any more"));
  REQUIRE_THROWS_WITH(f.origin->roll_back(1),
                      Catch::Contains("later/mine.private is not part of the tree"));
  std::filesystem::remove(f.at("later/mine.private"));
  const std::string hash = to_hex(proto::sha256(text(1000)));
  const std::string object = f.origin->work().path() + "/objects/" + hash.substr(0, 2) + "/" + hash;
  // Written to by another name: not what it is called any more.
  std::ofstream(object, std::ios::app) << "more";
  f.close();
  REQUIRE_THROWS_WITH(f.origin->roll_back(1),
                      Catch::Contains("no longer held, of lost for one"));
  CHECK(f.origin->unfinished_rollback() == 0);
  CHECK(std::filesystem::file_size(f.at("lost")) == 900);
  CHECK(std::filesystem::exists(f.at("later/file")));
}

TEST_CASE("packs beyond retain.bytes go, the newest stays", "[origin]") {
  Fixture f;
  std::vector<std::uint64_t> sizes;
  for (int i = 0; i < 4; ++i) {
    f.write("file", text(5000 + 1000 * static_cast<std::size_t>(i)));
    const StoredVersion v = f.closed();
    f.origin->mark_announced(v.record.number, "sealed");
    sizes.push_back(v.pack->size);
  }
  const auto after = [&](std::uint64_t bytes) {
    f.settings.retain.bytes = bytes;
    f.open();
    f.origin->retain(f.now);
    return f.origin->index().version_numbers();
  };
  using Numbers = std::vector<std::uint64_t>;
  CHECK(after(sizes[1] + sizes[2] + sizes[3]) == Numbers{2, 3, 4});
  CHECK(after(sizes[2] + sizes[3] - 1) == Numbers{4});
  CHECK(after(1) == Numbers{4});
}

TEST_CASE("a rollback leaves attributes that the origin does not look at", "[origin][rollback]") {
  Fixture f;
  f.settings.scan.xattrs = XattrMode::None;
  f.write("file", "content");
  run("chmod 644 " + f.at("file"));
  const StoredVersion first = f.closed();
  run("chmod 600 " + f.at("file"));
  test::set_xattr(f.at("file"), "user.ours", "kept");
  f.closed();

  go_back(f, 1);
  const auto closing = f.origin->close_version(f.now, true);
  REQUIRE(closing.state == State::Closed);
  CHECK(closing.version->record.tree_hash == first.record.tree_hash);
  CHECK(test::xattrs_of(f.at("file")) == proto::XattrSet{{"user.ours", "kept"}});
}

TEST_CASE("a tree that is not everybody's is no part of what everybody hears", "[origin]") {
  Fixture f;
  f.settings.inline_packs = false;
  f.write("file", "content");
  const auto update = proto::decode_update(f.closed().body);
  REQUIRE(update);
  CHECK(update->pack);
  CHECK(update->inline_pack.empty());
}
