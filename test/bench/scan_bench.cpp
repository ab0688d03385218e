// How fast an origin looks at a tree, beside what people would use for it, in the same run:
//
//   scan-bench [--tree DIR] [--rounds N]
//
// first scan   against  find -type f -print0 | xargs -0 openssl dgst -sha256   (one core)
// warm rescan  against  find -printf of the same fields
//
// Both are read from warm caches; the pairs are interleaved, and the medians are shown. The tree is
// copied first (`cp -a`, into TMPDIR), so that contents can be held beside it.
#include "services/tree/scan.hpp"
#include "services/tree/work_folder.hpp"
#include "test/support/temp_dir.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include <sys/resource.h>
#include <unistd.h>

namespace {

using namespace mirrorbus;
namespace fs = std::filesystem;

double seconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Of this process and those it waited for.
double cpu_seconds() {
  double sum = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used;
    ::getrusage(who, &used);
    for (const timeval& t : {used.ru_utime, used.ru_stime})
      sum += static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  }
  return sum;
}

struct Cost {
  std::vector<double> wall, cpu;
  void measure(const std::function<void()>& run) {
    const double before = cpu_seconds();
    wall.push_back(seconds(run));
    cpu.push_back(cpu_seconds() - before);
  }
};

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<long>(values.size() / 2));
  return values[values.size() / 2];
}

void shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error(command + ": failed");
}

struct Origin {
  tree::WorkFolder work;
  tree::Index index;
  tree::ContentStore store;
  tree::Scanner scanner;

  explicit Origin(const std::string& root)
      : work(root, "bench", "", tree::WorkFolder::Mount::Same),
        index(work.path() + "/index"),
        store(work.path() + "/objects", root, tree::StoreKind::Auto),
        scanner(index, store, root, work.fd(), tree::ScanSettings{}) {}
};

void bench(const std::string& source, int rounds) {
  const test::TempDir dir;
  const std::string root = dir / "tree";
  shell("cp -a '" + source + "/.' '" + root + "'");
  const std::string find =
      "find '" + root + "' -printf '%p %y %m %U %G %s %T@ %C@ %i %D %n\\n' >/dev/null";
  const std::string dgst =
      "find '" + root + "' -type f -print0 | taskset -c 0 xargs -0 openssl dgst -sha256 >/dev/null";
  shell(dgst);

  Cost first, hashed, warm, found;
  tree::ScanReport report;
  for (int i = 0; i < rounds; ++i) {
    hashed.measure([&] { shell(dgst); });
    Origin origin(root);
    first.measure([&] { report = origin.scanner.all(false); });
    origin.index.seal_pending();
    origin.scanner.all(false);  // what was read too soon after a change
    for (int j = 0; j < 3; ++j) {
      found.measure([&] { shell(find); });
      warm.measure([&] { origin.scanner.all(false); });
    }
    fs::remove_all(origin.work.path());
  }
  fmt::print("{}: {} entries, {:.0f} MB\n", source, report.entries,
             static_cast<double>(report.bytes_hashed) / 1e6);
  const auto row = [](const char* ours, const Cost& a, const char* theirs, const Cost& b) {
    fmt::print("{:12} {:.3f} s (cpu {:.3f})   {:14} {:.3f} s (cpu {:.3f})   ratio {:.2f}\n", ours,
               median(a.wall), median(a.cpu), theirs, median(b.wall), median(b.cpu),
               median(a.wall) / median(b.wall));
  };
  row("first scan", first, "openssl dgst", hashed);
  row("warm rescan", warm, "find -printf", found);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string tree = "/usr/include";
  int rounds = 3;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--tree")
      tree = argv[i + 1];
    else if (option == "--rounds")
      rounds = std::atoi(argv[i + 1]);
    else
      throw std::runtime_error("unknown option " + option);
  }
  bench(tree, rounds);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "scan-bench: %s\n", error.what());
  return 1;
}
