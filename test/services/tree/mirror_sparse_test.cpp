// Files with holes: a mirror's copy has them, too.
#include "services/tree/sparse.hpp"
#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>

#include <random>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;

namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

std::uint64_t allocated(const std::string& path) {
  struct stat st;
  REQUIRE(::stat(path.c_str(), &st) == 0);
  return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// `size` bytes, of which some short runs are not zero.
void sparse_file(const std::string& path, std::uint64_t size, unsigned seed) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.close();
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(size)) == 0);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 6; ++i) {
    file.seekp(static_cast<std::streamoff>(random() % (size - 5000)));
    for (std::uint64_t n = 1 + random() % 4000; n > 0; --n)
      file.put(static_cast<char>(random() % 200 + 1));
  }
}

}  // namespace

TEST_CASE("a grown file reads as what was appended, whatever the pieces", "[mirror][sparse]") {
  const TempDir tmp;
  for (unsigned seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    const std::string path = tmp.path() + "/f" + std::to_string(seed);
    const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    std::string all;
    for (int i = 0; i < 12; ++i) {
      std::string piece(random() % 20'000 + 1, '\0');
      if (random() % 2)
        for (std::size_t at = random() % piece.size(), n = random() % 3000; at < piece.size() && n > 0;
             ++at, --n)
          piece[at] = static_cast<char>(random());
      if (random() % 3 == 0) piece.resize((all.size() / 4096 + 1) * 4096 - all.size());
      tree::append_sparse(fd, piece, all.size(), "a test's file");
      all += piece;
      struct stat st;
      REQUIRE(::fstat(fd, &st) == 0);
      REQUIRE(static_cast<std::size_t>(st.st_size) == all.size());
    }
    ::close(fd);
    REQUIRE(slurp(path) == all);
  }
}

TEST_CASE("a mirror's files have holes where there is nothing", "[mirror][sparse]") {
  for (const bool packs : {false, true}) {
    const TempDir tmp;
    Mirror m(tmp.path());
    if (packs) m.make_packs();
    m.file("dense", std::string(3 * kMiB, 'd'));
    m.file("dir/empty", "");
    REQUIRE(::truncate((m.a() + "/dir/empty").c_str(), 12 * kMiB + 5) == 0);
    sparse_file(m.a() + "/small", 700'000, 1);
    sparse_file(m.a() + "/large", 20 * kMiB, 2);
    const auto good = [&] {
      const auto result = m.publish_and_sync();
      INFO(describe(result));
      CHECK(result.state == State::Committed);
      CHECK(m.differences() == "");
      for (const char* name : {"/dense", "/dir/empty", "/small", "/large", "/copy", "/in-place"})
        if (std::filesystem::exists(m.a() + name)) {
          INFO(name);
          CHECK(allocated(m.b() + name) <= allocated(m.a() + name) + 16 * 1024);
        }
    };
    good();
    CHECK(allocated(m.b() + "/dense") >= 3 * kMiB);
    CHECK(allocated(m.b() + "/large") < kMiB);
    // From the tree itself, and as a patch.
    std::filesystem::copy(m.a() + "/large", m.a() + "/copy");
    sparse_file(m.a() + "/copy", 20 * kMiB, 2);
    sparse_file(m.a() + "/small", 800'000, 3);
    sparse_file(m.a() + "/in-place", 9 * kMiB, 4);
    good();
    CHECK(m.verify().equal());
  }
}
