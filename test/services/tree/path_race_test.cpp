// Somebody who may write in the tree swaps a directory for a symbolic link that leads out of it, over
// and over, while a mirror is brought from one version to another and back, or an origin looks at it.
// For each kind of change a budget of seconds (MIRRORBUS_RACE_SECONDS, all of it; default 0.3): nothing
// outside may be touched, and nothing from outside may be published.
#include "services/tree/origin_tree.hpp"
#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <thread>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;

namespace {

double budget() {
  const char* text = std::getenv("MIRRORBUS_RACE_SECONDS");
  return text ? std::strtod(text, nullptr) : 0.3;
}

// Swaps `path`, a directory, for a symlink to `outside`, and back, until destroyed.
class Attacker {
 public:
  // `link`: where the other of the two is, on the same file system.
  Attacker(const std::string& path, const std::string& outside, const std::string& link)
      : path_(path), link_(link) {
    fs::create_directory_symlink(outside, link_);
    thread_ = std::jthread([this](std::stop_token stop) {
      while (!stop.stop_requested())
        // In one step: there is no moment at which the name is free.
        if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, link_.c_str(), RENAME_EXCHANGE) == 0)
          ++swaps_;
    });
  }
  ~Attacker() {
    thread_ = {};
    std::error_code ignored;
    if (fs::is_symlink(fs::symlink_status(path_, ignored)) &&
        fs::is_directory(fs::symlink_status(link_, ignored)))
      ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, link_.c_str(), RENAME_EXCHANGE);
    fs::remove_all(link_, ignored);
  }
  long swaps() const { return swaps_; }

 private:
  const std::string path_, link_;
  std::atomic<long> swaps_ = 0;
  std::jthread thread_;
};

// All there is to be seen of what lies outside.
std::string look_at(const std::string& top) {
  std::string seen;
  const auto note = [&seen](const fs::path& path) {
    struct stat st;
    if (::lstat(path.c_str(), &st) != 0) base::throw_errno(path);
    seen += path.string() + fmt::format(" {:o} {} {} {} {} {}.{:09} {}\n", st.st_mode, st.st_uid,
                                        st.st_gid, st.st_nlink, st.st_size, st.st_mtim.tv_sec,
                                        st.st_mtim.tv_nsec, st.st_ino);
  };
  note(top);
  for (const auto& each : fs::recursive_directory_iterator(top)) {
    note(each.path());
    if (!each.is_regular_file()) continue;
    std::ifstream in(each.path());
    seen += std::string(std::istreambuf_iterator<char>(in), {}) + "\n";
  }
  return seen;
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

struct Operation {
  const char* name;
  // What is done to directory `d` of the origin's tree between the two versions.
  std::function<void(const fs::path& d)> change;
};

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all{
      {"new file", [](const fs::path& d) { write(d / "secret", "new"); }},
      {"changed file", [](const fs::path& d) { write(d / "file", "changed, and longer"); }},
      {"removed file", [](const fs::path& d) { fs::remove(d / "file"); }},
      {"removed directory", [](const fs::path& d) { fs::remove_all(d / "sub"); }},
      {"new directory", [](const fs::path& d) { fs::create_directories(d / "made/deep"); }},
      {"mode", [](const fs::path& d) { fs::permissions(d / "file", fs::perms::owner_all); }},
      {"directory's mode", [](const fs::path& d) { fs::permissions(d, fs::perms::owner_all); }},
      {"time",
       [](const fs::path& d) {
         fs::last_write_time(d / "file", fs::file_time_type::clock::now() - std::chrono::hours(9));
       }},
      {"hard link", [](const fs::path& d) { fs::create_hard_link(d / "file", d / "link"); }},
      {"link across", [](const fs::path& d) {
         fs::create_hard_link(d / "file", d.parent_path() / "e/link");
       }},
      {"symlink", [](const fs::path& d) { fs::create_symlink("file", d / "to"); }},
      {"moved out", [](const fs::path& d) { fs::rename(d / "file", d.parent_path() / "e/file"); }},
      {"file to directory",
       [](const fs::path& d) {
         fs::remove(d / "file");
         fs::create_directory(d / "file");
         write(d / "file/in", "x");
       }},
  };
  return all;
}

void fill(const fs::path& d) {
  fs::create_directories(d / "sub/deep");
  write(d / "file", "of d");
  write(d / "sub/file", "of sub");
  write(d / "sub/deep/file", "of deep");
}

}  // namespace

TEST_CASE("whoever swaps directories under a mirror makes it touch nothing outside", "[race]") {
  double seconds = budget();
  for (const Operation& operation : operations()) {
    INFO(operation.name);
    TempDir tmp;
    Mirror m{tmp.path()};
    // The same names outside as inside: each step has something to hit.
    const std::string outside = tmp / "outside";
    fill(outside);
    write(fs::path(outside) / "secret", "outside");
    fill(fs::path(m.a()) / "d");
    fs::create_directories(fs::path(m.a()) / "e");
    const std::string before = tmp / "before";
    fs::copy(m.a(), before, fs::copy_options::recursive);
    m.publish(true);
    REQUIRE(m.sync().state == tree::SyncResult::State::Committed);
    const std::string seen = look_at(outside);

    long syncs = 0, swaps = 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      if (syncs % 2 == 0) {
        operation.change(fs::path(m.a()) / "d");
      } else {
        fs::remove_all(m.a());
        fs::copy(before, m.a(), fs::copy_options::recursive);
      }
      m.publish(true);
      std::error_code ignored;
      if (fs::is_directory(fs::symlink_status(fs::path(m.b()) / "d", ignored))) {
        Attacker attacker(m.b() + "/d", outside, tmp / "link");
        try {
          m.sync();
        } catch (const std::exception&) {
          // It may well fail, as long as it does no harm.
        }
        swaps += attacker.swaps();
      } else {
        m.sync();
      }
      ++syncs;
      REQUIRE(look_at(outside) == seen);
    }
    // What was done to the tree after it was checked is an edit like any other.
    m.sync();
    INFO(describe(m.repair()));
    CHECK(m.differences() == "");
    CHECK(swaps > 0);
    std::printf("%s: %ld syncs, %ld swaps\n", operation.name, syncs, swaps);
  }
}

TEST_CASE("whoever swaps directories under an origin publishes nothing from outside", "[race]") {
  TempDir tmp;
  tree::OriginSettings settings;
  settings.name = "t";
  settings.path = tmp / "tree";
  settings.durable = false;
  settings.scan.settle = std::chrono::nanoseconds(0);
  const std::string outside = tmp / "outside";
  fill(fs::path(settings.path) / "d");
  fill(outside);
  const std::string secrets[] = {"outside", "outside too, and below"};
  write(fs::path(outside) / "secret", secrets[0]);
  write(fs::path(outside) / "sub/secret", secrets[1]);
  const std::string seen = look_at(outside);
  tree::OriginTree origin(settings);
  long scans = 0;
  {
    const Attacker attacker(settings.path + "/d", outside, tmp / "link");
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::duration<double>(budget() * 4);
    for (; std::chrono::steady_clock::now() < end; ++scans) {
      scans % 2 ? origin.scan_some({"d", "d/sub"}, {"d"}) : origin.scan_all(scans % 3 == 0);
      origin.close_version(base::from_ns(1'790'000'000'000'000'000), true);
    }
    std::printf("origin: %ld scans, %ld swaps\n", scans, attacker.swaps());
    CHECK(attacker.swaps() > 0);
  }
  CHECK(scans > 0);
  for (const std::string& secret : secrets) {
    CHECK_FALSE(origin.store().has(proto::sha256(secret)));
    // Its own files are held: it is not that nothing was.
    CHECK(origin.store().has(proto::sha256("of sub")));
  }
  // Links of our own to what lies outside would show.
  CHECK(look_at(outside) == seen);
}
