// Runs a harness over its corpus: every file below the folders named. A child does the work, so
// that each file that ends it is named and the others still have their turn.
#include "test/fuzz/fuzz.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int kSecondsPerFile = 10;  // of this process's own, with sanitizers

std::vector<std::string> files_below(int count, char** folders) {
  std::vector<std::string> files;
  for (int i = 0; i < count; ++i)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folders[i]))
      if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

void run(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  // Of exactly its size, so that a sanitizer sees the first byte read beyond it.
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

[[noreturn]] void child(const std::vector<std::string>& files, std::atomic<std::size_t>& at) {
  for (; at < files.size(); ++at) {
    const itimerval limit{{}, {kSecondsPerFile, 0}};
    ::setitimer(ITIMER_PROF, &limit, nullptr);
    run(files[at]);
  }
  std::exit(EXIT_SUCCESS);  // a leak is found on the way out
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> files = files_below(argc - 1, argv + 1);
  if (files.empty()) {
    std::fprintf(stderr, "no corpus\n");
    return EXIT_FAILURE;
  }
  void* const shared = ::mmap(nullptr, sizeof(std::atomic<std::size_t>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("mmap");
    return EXIT_FAILURE;
  }
  auto& at = *new (shared) std::atomic<std::size_t>(0);
  std::size_t failed = 0;
  for (bool all = false; !all;) {
    const pid_t pid = ::fork();
    if (pid == 0) child(files, at);
    int status = 0;
    if (pid < 0 || ::waitpid(pid, &status, 0) != pid) {
      std::perror("fork");
      return EXIT_FAILURE;
    }
    all = at == files.size();
    if (all && status == 0) break;
    ++failed;
    const std::string how = WIFSIGNALED(status) ? ::strsignal(WTERMSIG(status)) : "see above";
    std::fprintf(stderr, "failed: %s (%s)\n", all ? "on the way out" : files[at].c_str(),
                 how.c_str());
    ++at;
  }
  std::printf("%zu inputs, %zu failed\n", files.size(), failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
