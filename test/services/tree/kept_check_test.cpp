// What lies beside a tree and has rotted is found, named, and set aside.
#include "services/tree/kept_check.hpp"

#include "bus/base/sqlite.hpp"
#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"
#include "test/services/tree/mirror_fixture.hpp"
#include "test/services/tree/origin_fixture.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using namespace mirrorbus::tree;
namespace fs = std::filesystem;

namespace {

// One bit in the middle, in place; times that can be set are as before.
void flip(const std::string& file) {
  struct stat st;
  REQUIRE(::stat(file.c_str(), &st) == 0);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(st.st_size / 2);
  const char byte = static_cast<char>(bytes.get() ^ 4);
  bytes.seekp(st.st_size / 2);
  bytes.put(byte);
  bytes.close();
  const timespec times[] = {st.st_atim, st.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
}

struct KeptOrigin : test::OriginFixture {
  explicit KeptOrigin(StoreKind store) : OriginFixture(store) {
    fs::create_directory(settings.path + "/dir");
  }
  KeptReport check() const {
    const Index index(origin->index_file(), {.read_only = true});
    tree::Progress last;
    const tree::WorkControl control{[&last](const tree::Progress& now) { last = now; }};
    auto found = KeptCheck(index, origin->work().path(), control).origin(settings.path);
    if (found.count == 0) CHECK(last.bytes == last.bytes_total);
    return found;
  }
  std::string object(const std::string& content, const char* below = "") const {
    const std::string hex = to_hex(proto::sha256(content));
    return origin->work().path() + "/objects" + below + "/" + hex.substr(0, 2) + "/" + hex;
  }
  // As a disk does it: lstat tells nothing.
  void rot(const std::string& path) const {
    flip(at(path));
    struct stat st;
    REQUIRE(::lstat(at(path).c_str(), &st) == 0);
    Index index(origin->index_file(), {.durable = false});
    const auto row = index.directory(proto::parent_path(path)).value();
    auto stats = row.stats;
    const auto node = proto::decode_node(row.node).value();
    for (std::size_t i = 0; i < node.entries.size(); ++i)
      if (node.entries[i].name == proto::last_name(path)) {
        const auto flags = stats[i].flags;
        stats[i] = EntryStat::of(st);
        stats[i].flags = flags;
      }
    index.put_stats(row.path, stats);
  }
};

void execute(const std::string& file, const char* text) {
  base::Database db(file);
  db.exec(text);
}

}  // namespace

TEST_CASE("a mirror's pack that has rotted is named, and fetched again", "[mirror][verify]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  m.settings.keep_packs_bytes = UINT64_MAX;
  std::vector<std::string> packs;
  for (int i = 0; i < 3; ++i) {
    m.file("file" + std::to_string(i), std::string(1000, static_cast<char>('a' + i)));
    REQUIRE(m.publish_and_sync().state == SyncResult::State::Committed);
    packs.push_back(m.settings.work + "/packs/" + to_hex(m.last_pack()));
  }
  auto found = m.verify();
  CHECK(found.equal());
  CHECK(found.kept.packs == 3);
  CHECK(found.kept.nodes >= 3);

  flip(packs[1]);
  std::uint64_t bytes = 0, total = 0;
  WorkControl control;
  control.progress = [&](const Progress& now) {
    CHECK(now.bytes >= bytes);
    bytes = now.bytes;
    total = now.bytes_total;
  };
  found = m.tree().verify(control);
  CHECK(bytes == total);
  CHECK(bytes == found.bytes + found.kept.bytes);
  CHECK_FALSE(found.equal());
  CHECK(found.count == 0);
  REQUIRE(found.kept.count == 1);
  CHECK(found.kept.rotten[0].path == packs[1]);
  CHECK(found.kept.rotten[0].what == "the pack is not what its hash says");
  SECTION("which the source still has") {
    CHECK(m.tree().mend_kept(found.kept, m.source));
    CHECK(m.verify().equal());
    CHECK(m.verify().kept.packs == 3);
  }
  SECTION("which nobody has") {
    m.source.gone.insert(found.kept.rotten[0].hash);
    CHECK(m.tree().mend_kept(found.kept, m.source));
    CHECK(m.verify().equal());
    CHECK_FALSE(fs::exists(packs[1]));
  }
}

TEST_CASE("an index that has rotted is named, and the tree not held against it",
          "[mirror][verify]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.file("dir/deep/file", "one");
  m.file("old", "1");
  REQUIRE(m.publish_and_sync().state == SyncResult::State::Committed);
  m.file("dir/deep/file", "two");
  fs::remove(m.a() + "/old");
  REQUIRE(m.publish_and_sync().state == SyncResult::State::Committed);
  REQUIRE(m.verify().equal());
  m.close();
  const std::string file = tmp / "index";
  const auto named = [&m] {
    const auto found = m.verify();
    CHECK_FALSE(found.equal());
    CHECK(found.files == 0);
    CHECK_FALSE(m.tree().mend_kept(found.kept, m.source));
    std::string all;
    for (const Rot& rot : found.kept.rotten) all += rot.path + ": " + rot.what + "\n";
    return all;
  };
  SECTION("a directory's node") {
    execute(file, "UPDATE directories SET node = CAST(node || x'00' AS BLOB)"
                  " WHERE length(key) = (SELECT max(length(key)) FROM directories)");
    CHECK(named() == "dir/deep: index: the directory's node is not what its hash says\n");
  }
  SECTION("a directory is lost") {
    execute(file, "DELETE FROM directories"
                  " WHERE length(key) = (SELECT max(length(key)) FROM directories)");
    CHECK(named() == "dir/deep: index: the directory's node is lost\n");
  }
  SECTION("what only an older version needs") {
    execute(file, "UPDATE blobs SET bytes = CAST(bytes || x'00' AS BLOB) WHERE last_version = 1");
    CHECK(named().find("of version 1 is not what its hash says") != std::string::npos);
  }
}

TEST_CASE("what an origin keeps is read and compared with its hashes", "[origin][verify]") {
  const auto kind = GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None);
  KeptOrigin o(kind);
  const std::string small(5000, 's'), other(6000, 'o'), old(7000, 'x');
  o.write("dir/small", small);
  o.write("other", other);
  o.write("goes", old);
  o.closed();
  fs::remove(o.at("goes"));
  const StoredVersion version = o.closed();
  auto found = o.check();
  CHECK(found.count == 0);
  CHECK(found.packs == 2);
  CHECK(found.files == 2);
  CHECK(found.contents == (kind == StoreKind::None ? 0 : 3));

  const auto whats = [&found] {
    std::vector<std::string> all;
    for (const Rot& rot : found.rotten) all.push_back(rot.path + ": " + rot.what);
    return all;
  };
  using Whats = std::vector<std::string>;
  SECTION("a pack") {
    flip(o.origin->pack_path(version.pack->sha256));
    found = o.check();
    REQUIRE(found.count == 1);
    CHECK(whats() == Whats{o.origin->pack_path(version.pack->sha256) +
                           ": the pack is not what its hash says"});
    CHECK(o.origin->mend(found));
    CHECK_FALSE(fs::exists(o.origin->pack_path(version.pack->sha256)));
    CHECK(o.check().count == 0);
  }
  SECTION("a file") {
    o.rot("dir/small");
    found = o.check();
    REQUIRE(found.count == 1);
    CHECK(found.rotten[0].path == "dir/small");
    CHECK(found.rotten[0].kind == Rot::Kind::File);
    CHECK_FALSE(o.origin->mend(found));
  }
  SECTION("a file that was changed is none") {
    flip(o.at("dir/small"));
    CHECK(o.check().count == 0);
    o.closed();
    CHECK(o.check().count == 0);
  }
  if (kind != StoreKind::None) {
    SECTION("the content of an older version") {
      flip(o.object(old));
      found = o.check();
      REQUIRE(whats() == Whats{o.object(old) +
                               ": the content of an older version is not what its hash says"});
      CHECK(o.origin->mend(found));
      CHECK_FALSE(fs::exists(o.object(old)));
      CHECK(o.check().count == 0);
    }
  }
  if (kind == StoreKind::Hardlink) {
    SECTION("an object under its second name") {
      o.write("dir/small", small);
      o.closed();
      while (o.origin->tidy()) {
      }
      REQUIRE_FALSE(fs::exists(o.object(small)));
      found = o.check();
      CHECK(found.count == 0);
      CHECK(found.contents == 3);
      fs::remove(o.at("dir/small"));
      o.closed();
      const std::string second = o.object(small, "/second");
      flip(second);
      found = o.check();
      REQUIRE(whats() == Whats{second + ": the content of an older version is not what its hash says"});
      CHECK(o.origin->mend(found));
      CHECK_FALSE(fs::exists(second));
    }
  }
  if (kind == StoreKind::Copy) {
    SECTION("a content that the tree has as well") {
      flip(o.object(small));
      found = o.check();
      REQUIRE(whats() == Whats{"dir/small: what is kept of its content is not what its hash says"});
      CHECK(o.origin->mend(found));
      CHECK(fs::exists(o.object(small)));
      CHECK(o.check().count == 0);
    }
    SECTION("both") {
      flip(o.object(small));
      o.rot("dir/small");
      found = o.check();
      REQUIRE(found.count == 1);
      CHECK(found.rotten[0].path == "dir/small");
      // Without it the next careful look would take the file for a new one, and publish it.
      CHECK_FALSE(o.origin->mend(found));
      CHECK(fs::exists(o.object(small)));
      o.origin->scan_all(true);
      CHECK(o.origin->close_version(o.now, true).state == OriginTree::Closing::State::Unchanged);
    }
  }
}
