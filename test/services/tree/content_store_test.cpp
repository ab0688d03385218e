#include "services/tree/content_store.hpp"

#include "proto/sha256.hpp"
#include "test/support/as_user.hpp"
#include "test/support/temp_dir.hpp"

#include <thread>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/xattr.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using State = HoldResult::State;
using proto::sha256;
using test::TempDir;

namespace {

struct Fixture {
  TempDir tmp;
  std::string tree = tmp / "tree";
  base::Fd dir;
  std::unique_ptr<ContentStore> store;

  explicit Fixture(StoreKind kind) {
    std::filesystem::create_directory(tree);
    write("sample", "s");
    dir = base::Fd(::open(tree.c_str(), O_RDONLY | O_DIRECTORY));
    store = std::make_unique<ContentStore>(tmp / "objects", tree, kind);
  }
  void write(const std::string& name, std::string_view content) const {
    std::ofstream(tree + "/" + name, std::ios::binary | std::ios::trunc) << content;
  }
  // As rsync does it: a new inode under the old name.
  void replace(const std::string& name, std::string_view content) const {
    write(".new", content);
    std::filesystem::rename(tree + "/.new", tree + "/" + name);
  }
  HoldResult hold(const std::string& name, std::optional<ContentStore::Before> before = {}) const {
    return store->hold(dir.get(), name, 0, before);
  }
  struct stat stat_of(const std::string& name) const {
    struct stat st {};
    if (::fstatat(dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) base::throw_errno(name);
    return st;
  }
};

bool same_ctime(const struct stat& a, const struct stat& b) {
  return a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

}  // namespace

TEST_CASE("a held content survives the file's replacement", "[content_store]") {
  const auto kind = GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::Auto);
  const Fixture f(kind);
  REQUIRE(f.store->kind() != StoreKind::None);
  f.write("f", "old content");
  const auto held = f.hold("f");
  REQUIRE(held.state == State::Held);
  CHECK(held.hash == sha256("old content"));
  CHECK_FALSE(held.known);
  CHECK(same_ctime(held.st, f.stat_of("f")));  // recorded after our own link

  f.replace("f", "new content");
  CHECK(f.store->has(held.hash));
  CHECK(f.store->read(held.hash, 11) == "old content");
  CHECK_FALSE(f.store->read(sha256("other"), 5));
  CHECK(f.hold("f").hash == sha256("new content"));
  CHECK(f.store->read(sha256("new content"), 11) == "new content");
}

TEST_CASE("nothing is kept by store none", "[content_store]") {
  const Fixture f(StoreKind::None);
  f.write("f", "content");
  const auto held = f.hold("f");
  CHECK(held.state == State::Hashed);
  CHECK(held.hash == sha256("content"));
  CHECK(f.stat_of("f").st_nlink == 1);
  CHECK_FALSE(f.store->has(held.hash));
}

TEST_CASE("equal contents are one object", "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("a", "same");
  f.write("b", "same");
  const auto a = f.hold("a"), b = f.hold("b");
  CHECK(a.linked);
  CHECK_FALSE(b.linked);
  CHECK(b.known);
  CHECK(b.state == State::Held);
  CHECK(f.stat_of("b").st_nlink == 1);
  CHECK(same_ctime(a.st, f.stat_of("a")));
  CHECK(same_ctime(b.st, f.stat_of("b")));
}

TEST_CASE("an inode with several names is linked once", "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("a", "same");
  std::filesystem::create_hard_link(f.tree + "/a", f.tree + "/b");
  const auto a = f.hold("a");
  const auto b = f.hold("b");
  CHECK(a.linked);
  CHECK(b.linked);
  // Looking at b did not move what was recorded for a.
  CHECK(same_ctime(a.st, f.stat_of("a")));
  CHECK(same_ctime(b.st, f.stat_of("b")));
}

TEST_CASE("a content that comes again under a new inode does not take the disk twice",
          "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("f", "same");
  f.hold("f");
  f.replace("f", "same");
  CHECK(f.stat_of("f").st_nlink == 1);
  const auto again = f.hold("f");
  CHECK(again.linked);
  CHECK(again.known);
  CHECK(f.stat_of("f").st_nlink == 2);
  CHECK_FALSE(f.store->sweep(1));
  struct stat object;
  REQUIRE(::fstat(f.store->open(again.hash).get(), &object) == 0);
  CHECK(object.st_ino == f.stat_of("f").st_ino);
}

namespace {

// How many inodes the store has that the tree has not.
long superseded(const Fixture& f) {
  long count = 0;
  for (const auto& each : std::filesystem::recursive_directory_iterator(f.tmp / "objects"))
    count += each.is_regular_file() && each.hard_link_count() == 1;
  return count;
}

}  // namespace

TEST_CASE("inodes that were replaced are freed later, also after a crash", "[content_store]") {
  Fixture f(StoreKind::Hardlink);
  constexpr int kFiles = 5;
  const auto name = [](int i) { return "f" + std::to_string(i); };
  const auto replace_all = [&] {
    for (int i = 0; i < kFiles; ++i) {
      f.replace(name(i), "content " + name(i));
      const auto held = f.hold(name(i));
      CHECK(held.state == State::Held);
      CHECK(held.linked);
      CHECK(same_ctime(held.st, f.stat_of(name(i))));
      CHECK(f.stat_of(name(i)).st_nlink == 2);
    }
  };
  replace_all();
  CHECK(superseded(f) == 0);
  replace_all();
  CHECK(superseded(f) == kFiles);
  CHECK(f.store->sweep(2));
  CHECK(superseded(f) == kFiles - 2);
  f.store = std::make_unique<ContentStore>(f.tmp / "objects", f.tree, StoreKind::Hardlink);
  // Those that are not freed yet make room for the third inode of their content.
  replace_all();
  CHECK(superseded(f) == kFiles);
  CHECK_FALSE(f.store->sweep(100));
  CHECK(superseded(f) == 0);
  for (int i = 0; i < kFiles; ++i) {
    const std::string content = "content " + name(i);
    CHECK(f.store->read(sha256(content), content.size()) == content);
    CHECK(f.hold(name(i)).linked);
    CHECK(f.stat_of(name(i)).st_nlink == 2);
  }
}

TEST_CASE("an inode has one name in the store, whichever it is", "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("f", "same");
  f.hold("f");
  f.replace("f", "same");
  const auto held = f.hold("f");
  const bool freed = GENERATE(false, true);
  if (freed) f.store->sweep(100);
  const auto again = f.hold("f");
  CHECK(again.linked);
  CHECK(again.known);
  CHECK(same_ctime(again.st, held.st));
  CHECK(f.stat_of("f").st_nlink == 2);

  SECTION("of what was written in place, it is the one that goes") {
    f.write("f", "else");
    const auto now =
        f.hold("f", ContentStore::Before{held.hash, held.st.st_dev, held.st.st_ino});
    CHECK(now.linked);
    CHECK(f.stat_of("f").st_nlink == 2);
    CHECK(f.store->has(held.hash) == !freed);  // the first inode, which nobody could write to
    CHECK(f.store->read(held.hash, 4).has_value() == !freed);
  }
  SECTION("both are dropped") {
    f.store->drop(held.hash);
    CHECK_FALSE(f.store->has(held.hash));
    CHECK(f.stat_of("f").st_nlink == 1);
    CHECK(superseded(f) == 0);
  }
}

TEST_CASE("what has no extended attributes is known to have none", "[content_store]") {
  const auto kind = GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None);
  const Fixture f(kind);
  f.write("plain", "content");
  CHECK(f.hold("plain").bare);
  f.write("f", "content");
  const std::string path = f.tree + "/f";
  if (::setxattr(path.c_str(), "user.a", "b", 1, 0) != 0) return;  // not known here
  CHECK_FALSE(f.hold("f").bare);
}

TEST_CASE("a file written in place takes its object with it", "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("f", "before");
  const auto first = f.hold("f");
  f.write("f", "after!");
  SECTION("noticed when it is held again") {
    const auto second =
        f.hold("f", ContentStore::Before{first.hash, first.st.st_dev, first.st.st_ino});
    CHECK(second.hash == sha256("after!"));
    CHECK(second.linked);
    CHECK_FALSE(f.store->has(first.hash));
    CHECK(f.stat_of("f").st_nlink == 2);
    CHECK(same_ctime(second.st, f.stat_of("f")));
  }
  SECTION("noticed when it is read") {
    CHECK_FALSE(f.store->read(first.hash, 6));
    CHECK_FALSE(f.store->has(first.hash));
  }
}

TEST_CASE("what is not a file is told apart", "[content_store]") {
  const auto kind = GENERATE(StoreKind::Hardlink, StoreKind::Copy, StoreKind::None);
  const Fixture f(kind);
  CHECK(f.hold("absent").state == State::Vanished);
  std::filesystem::create_directory(f.tree + "/d");
  CHECK(f.hold("d").state == State::NotAFile);
  std::filesystem::create_symlink("sample", f.tree + "/l");
  CHECK(f.hold("l").state == State::NotAFile);
  REQUIRE(::mkfifoat(f.dir.get(), "fifo", 0600) == 0);
  CHECK(f.hold("fifo").state == State::NotAFile);
  f.write("empty", "");
  CHECK(f.hold("empty").hash == sha256(""));
}

TEST_CASE("other people's files are hashed, not held", "[content_store]") {
  if (::geteuid() != 0) return;
  const Fixture f(StoreKind::Hardlink);
  f.write("theirs", "content");
  f.write("secret", "content");
  REQUIRE(::fchmodat(f.dir.get(), "secret", 0600, 0) == 0);
  REQUIRE(::chmod(f.tmp.path().c_str(), 0777) == 0);
  CHECK(test::as_user(test::kPlainUser, [&] {
          ContentStore store(f.tmp / "own", f.tree, StoreKind::Auto);
          if (store.hold(f.dir.get(), "secret", 0).state != State::Unreadable)
            throw std::runtime_error("read a secret");
          const auto held = store.hold(f.dir.get(), "theirs", 0);
          if (held.hash != sha256("content")) throw std::runtime_error("wrong hash");
          // By sysctl fs.protected_hardlinks this is Hashed; without it, Held.
          if (held.state != State::Hashed && held.state != State::Held)
            throw std::runtime_error("not read");
        }) == "");
}

TEST_CASE("a file that changes all the time is unstable, and nothing wrong is held",
          "[content_store]") {
  const Fixture f(StoreKind::Hardlink);
  f.write("f", std::string(4'000'000, 'a'));
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    const base::Fd fd(::openat(f.dir.get(), "f", O_WRONLY));
    for (char c = 'b'; !stop; c = c == 'z' ? 'a' : static_cast<char>(c + 1))
      if (::pwrite(fd.get(), std::string(100'000, c).data(), 100'000, c * 10'000) < 0) break;
  });
  for (int i = 0; i < 10; ++i) (void)f.hold("f");
  stop = true;
  writer.join();
  // Whatever got in is either right or found out.
  std::vector<proto::Hash> all;
  f.store->each([&](const proto::Hash& hash) { all.push_back(hash); });
  for (const auto& hash : all)
    if (const auto bytes = f.store->read(hash, 4'000'000)) CHECK(sha256(*bytes) == hash);
  CHECK(std::filesystem::is_empty(f.tmp / "objects/temp0"));
}

TEST_CASE("what does not work is not chosen", "[content_store]") {
  const TempDir tmp;
  std::filesystem::create_directory(tmp / "tree");
  tmp.write("tree/f", "x");
  if (::access("/dev/shm", W_OK) != 0) return;
  struct stat here, there;
  if (::stat(tmp.path().c_str(), &here) != 0 || ::stat("/dev/shm", &there) != 0 ||
      here.st_dev == there.st_dev)
    return;
  const std::string elsewhere = "/dev/shm/mirrorbus-store-" + std::to_string(::getpid());
  {
    const ContentStore store(elsewhere, tmp / "tree", StoreKind::Auto);
    CHECK(store.kind() == StoreKind::None);
    CHECK_THAT(store.reason(), Catch::Contains("hardlink: Invalid cross-device link"));
  }
  CHECK_THROWS_WITH(ContentStore(elsewhere, tmp / "tree", StoreKind::Hardlink),
                    Catch::Contains("does not work"));
  std::filesystem::remove_all(elsewhere);
}

TEST_CASE("store kinds by name", "[content_store]") {
  CHECK(store_kind("reflink") == StoreKind::Reflink);
  CHECK_FALSE(store_kind("symlink"));
}
