// Mirrors whose user or filesystem may not do everything.
#include "test/services/tree/mirror_fixture.hpp"

#include "test/support/as_user.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;
using State = tree::SyncResult::State;

TEST_CASE("what this user cannot do is left out and counted", "[mirror][plain]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  fs::permissions(tmp.path(), fs::perms::all);
  {
    Mirror m(tmp.path());
    small_tree(m);
    REQUIRE(::mknod((m.a() + "/device").c_str(), S_IFCHR | 0600, 0x0103) == 0);
    REQUIRE(::mkfifo((m.a() + "/fifo").c_str(), 0640) == 0);
    REQUIRE(::chown((m.a() + "/top").c_str(), kPlainUser, kPlainUser) == 0);
    REQUIRE(::chown((m.a() + "/dir/two").c_str(), 1, 1) == 0);
    fs::permissions(m.a() + "/dir/deep", fs::perms(0555));
    fs::remove_all(tmp / "work");
  }
  // entries other than `top` belong to somebody else
  CHECK(as_user(kPlainUser, [&] {
          Mirror m(tmp.path());
          auto result = m.publish_and_sync();
          if (result.state != State::Committed) throw std::runtime_error(describe(result));
          const auto owners = result.fidelity.owners;
          if (result.fidelity.devices != 1 || owners != 10 || result.fidelity.full())
            throw std::runtime_error("fidelity " + std::to_string(owners) + " " +
                                     std::to_string(result.fidelity.devices));
          const auto verified = m.verify();
          if (!verified.equal())
            throw std::runtime_error("verify: " + verified.differences[0].path);
          if (m.sync().state != State::Unchanged) throw std::runtime_error("not unchanged");
        }) == "");
  CHECK(oracle(tmp / "a", tmp / "b", "--no-owner --no-group --no-devices --exclude=/device") == "");
  // The next version has fewer of them.
  fs::remove(tmp / "a/device");
  fs::remove_all(tmp / "a/dir");
  CHECK(as_user(kPlainUser, [&] {
          Mirror m(tmp.path());
          m.publish();
          const auto result = m.publish_and_sync();
          if (result.state != State::Committed) throw std::runtime_error(describe(result));
          if (result.fidelity.devices != 0 || result.fidelity.owners != 4)
            throw std::runtime_error("fidelity " + std::to_string(result.fidelity.owners));
        }) == "");
  CHECK(oracle(tmp / "a", tmp / "b", "--no-owner --no-group") == "");
}

TEST_CASE("a mirror that may do more than before does it", "[mirror]") {
  if (::geteuid() != 0) return;
  const TempDir tmp;
  Mirror m(tmp.path());
  small_tree(m);
  REQUIRE(::chown((m.a() + "/dir/two").c_str(), 7, 8) == 0);
  m.settings.metadata.owner = tree::OwnerMode::None;
  auto result = m.publish_and_sync();
  CHECK(result.fidelity.owners == 1);
  CHECK(m.differences() != "");
  m.settings.metadata.owner = tree::OwnerMode::Numeric;
  result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.fidelity.full());
  CHECK(m.differences() == "");
}
