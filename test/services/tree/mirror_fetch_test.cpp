// What comes from a source, where it is written, and what is left of it when something breaks.
#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;
using State = tree::SyncResult::State;

TEST_CASE("what has come before the connection broke is kept", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 50; ++i)
    m.file("f" + std::to_string(i), std::string(1000, static_cast<char>(i)));
  m.publish();
  m.source.fail_after_bytes = 30'000;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  const auto sent = m.source.object_bytes;
  CHECK_FALSE(fs::exists(m.b()));
  const auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(m.source.object_bytes - sent < 35'000);  // of 50,000
  CHECK(m.differences() == "");
}

TEST_CASE("a large file goes on where it was cut off", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  const auto size = GENERATE(std::size_t{20'000'000}, std::size_t{10'000'000});  // by itself, or not
  CAPTURE(size);
  m.file("large", std::string(size, 'L'));
  m.publish();
  m.source.fail_after_bytes = size / 4 * 3;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  const auto sent = m.source.object_bytes;
  SECTION("in the same boot") {}
  SECTION("after a reboot") {
    m.settings.boot = "another boot";
  }
  const auto result = m.sync();
  CHECK(result.state == State::Committed);
  CHECK(m.source.object_bytes - sent <= size / 4 + 100'000);
  CHECK(m.differences() == "");
}

TEST_CASE("after a reboot what was written is hashed again", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.settings.boot = "first";
  fs::path written;
  char initial = 0;
  SECTION("of a first sync, in its place") {
    written = tmp / "work/first";
    initial = 'f';
  }
  SECTION("of an update, in staging") {
    m.file("f0", "another");
    REQUIRE(m.publish_and_sync().state == State::Committed);
    written = tmp / "work/staging";
    initial = 'c';
  }
  for (int i = 0; i < 20; ++i)
    m.file("f" + std::to_string(i), std::string(1000, static_cast<char>('a' + i)));
  m.publish();
  m.source.fail_after_bytes = 15'000;
  CHECK_THROWS_AS(m.sync(), tree::SourceError);
  // As a power cut may leave a file: named, of that size and time, but of zeros.
  int zeroed = 0;
  for (const auto& each : fs::directory_iterator(written)) {
    if (each.path().filename().string()[0] != initial || zeroed == 3) continue;
    const auto time = fs::last_write_time(each.path());
    fs::resize_file(each.path(), 0);
    fs::resize_file(each.path(), 1000);
    fs::last_write_time(each.path(), time);
    ++zeroed;
  }
  CHECK(zeroed == 3);
  m.settings.boot = "second";
  const auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK_FALSE(result.repaired);
  CHECK(m.differences() == "");
}

TEST_CASE("a first sync writes files where they belong", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 20; ++i)
    m.file("d/f" + std::to_string(i), std::string(100, static_cast<char>('a' + i)));
  m.file("d/closed", "nobody may read it");
  fs::permissions(m.a() + "/d/closed", fs::perms::none);
  m.file("d/equal1", "three of them");
  m.file("d/equal2", "three of them");
  m.file("other/equal3", "three of them");
  int named_anew = 0;
  ScriptedProbe probe;
  probe.on_change = [&](const std::string& call, const proto::Bytes&) {
    named_anew += call == "rename" || call == "link" || call == "exchange";
  };
  m.settings.probe = &probe;
  REQUIRE(m.publish_and_sync().state == State::Committed);
  CHECK(m.differences() == "");
  // The equal ones come by staging, and are moved out of it; and so is the whole.
  CHECK(named_anew <= 2 * 3 + 1);
  CHECK(m.source.object_bytes < 3'000);
}

TEST_CASE("work stops when it is told to, and goes on", "[mirror]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  for (int i = 0; i < 800; ++i) m.file("d/f" + std::to_string(i), "c" + std::to_string(i));
  m.publish();
  std::atomic<bool> cancel{false};
  m.control.cancel = &cancel;
  std::uint64_t files = 0;
  m.control.progress = [&](const tree::Progress& progress) {
    files = progress.files;
    if (progress.bytes > 0 && progress.files > 200) cancel = true;
  };
  CHECK_THROWS_AS(m.sync(), tree::Cancelled);
  CHECK(files > 200);
  cancel = false;
  m.control.progress = {};
  const auto sent = m.source.objects_sent;
  CHECK(m.sync().state == State::Committed);
  CHECK(m.source.objects_sent - sent < 650);
  CHECK(m.differences() == "");
}
