#include "bus/peer/state_dir.hpp"

#include "bus/base/fd.hpp"
#include "test/support/temp_dir.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;

namespace {

base::Fd locked(const std::string& state) {
  base::Fd file(::open((state + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(::flock(file.get(), LOCK_EX | LOCK_NB) == 0);
  return file;
}

}  // namespace

TEST_CASE("what a killed daemon's child still holds for a moment is waited for", "[state]") {
  const test::TempDir dir;
  base::Fd held = locked(dir.path());
  std::thread child([&held] {
    std::this_thread::sleep_for(150ms);  // the moment
    held = base::Fd();
  });
  CHECK_NOTHROW(peer::StateDir(dir.path()));
  child.join();
}

TEST_CASE("what another daemon holds is refused, within seconds", "[state]") {
  const test::TempDir dir;
  const base::Fd held = locked(dir.path());
  const auto began = std::chrono::steady_clock::now();
  CHECK_THROWS_AS(peer::StateDir(dir.path()), std::runtime_error);
  CHECK(std::chrono::steady_clock::now() - began < 10s);
}

TEST_CASE("directories are made that are missing, also below a relative path", "[state]") {
  const test::TempDir dir;
  CHECK_NOTHROW(peer::StateDir(dir.path() + "/a/b/c"));
  CHECK(::access((dir.path() + "/a/b/c/lock").c_str(), F_OK) == 0);
  REQUIRE(::chdir(dir.path().c_str()) == 0);
  CHECK_NOTHROW(peer::StateDir("here"));
  CHECK(::access((dir.path() + "/here/lock").c_str(), F_OK) == 0);
}
