// Random edits, and scans of what was edited alone.
#include "test/services/tree/scan_fixture.hpp"

#include "services/tree/watch.hpp"
#include "test/support/environment.hpp"

#include <random>
#include <set>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using Fixture = test::ScanFixture;

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
