// Syncs by packs, and how long packs and versions are kept.
#include "test/services/tree/mirror_fixture.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
namespace fs = std::filesystem;
using State = tree::SyncResult::State;

TEST_CASE("versions and their packs go together, by number, age and bytes", "[mirror][packs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  m.settings.keep_packs_bytes = UINT64_MAX;
  m.tree().retain(base::from_ns(1));  // nothing has come yet
  std::vector<proto::Hash> packs;
  std::uint64_t last_two = 0;
  for (int i = 0; i < 4; ++i) {
    m.file("file", std::string(1000, static_cast<char>('a' + i)));
    REQUIRE(m.publish_and_sync().state == State::Committed);
    packs.push_back(m.last_pack());
    last_two = m.index().newest()->pack->size +
               (i > 0 ? m.index().version(static_cast<std::uint64_t>(i))->pack->size : 0);
  }
  const auto on_shelf = [&] {
    std::vector<std::uint64_t> numbers;
    for (std::size_t i = 0; i < packs.size(); ++i)
      if (fs::exists(m.settings.work + "/packs/" + to_hex(packs[i]))) numbers.push_back(i + 1);
    return numbers;
  };
  using Numbers = std::vector<std::uint64_t>;
  const std::string coming = m.settings.work + "/packs/" + to_hex(proto::Hash{}) + ".part";
  std::ofstream(coming) << "half of one";
  const auto after = [&](const tree::Retention& retain) {
    m.settings.retain = retain;
    m.tree().retain(base::from_ns(10));  // each is dated by its number
    CHECK(on_shelf() == m.index().version_numbers());
    return m.index().version_numbers();
  };
  tree::Retention retain;
  CHECK(after(retain) == Numbers{1, 2, 3, 4});
  SECTION("by number") {
    retain.versions = 2;
    CHECK(after(retain) == Numbers{3, 4});
  }
  SECTION("by age") {
    retain.time = std::chrono::nanoseconds(8);
    CHECK(after(retain) == Numbers{2, 3, 4});
    retain.time = std::chrono::nanoseconds(1);
    CHECK(after(retain) == Numbers{4});
  }
  SECTION("by bytes") {
    retain.bytes = last_two;
    CHECK(after(retain) == Numbers{3, 4});
  }
  SECTION("packs alone") {
    m.settings.keep_packs_bytes = last_two;
    m.tree().retain(base::from_ns(10));
    CHECK(on_shelf() == Numbers{3, 4});
    CHECK(m.index().version_numbers().size() == 4);
  }
  CHECK(fs::exists(coming));
  m.file("file", "more");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  CHECK_FALSE(fs::exists(coming));
}

TEST_CASE("a folded chain of packs fetches contents of the last version only", "[mirror][packs]") {
  const TempDir tmp;
  Mirror m(tmp.path());
  m.make_packs();
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "line " + std::to_string(i * 7919 % 1000) + "\n";
  m.file("big", text);
  m.file("other", "o");
  REQUIRE(m.publish_and_sync().state == State::Committed);
  const auto objects = m.source.objects_sent;
  for (int i = 0; i < 4; ++i) {
    m.file("big", text += "appended " + std::to_string(i) + "\n");
    m.file("passing" + std::to_string(i), std::string(3000, static_cast<char>('a' + i)));
    if (i > 0) fs::remove(m.a() + "/passing" + std::to_string(i - 1));
    m.publish();
  }
  auto result = m.sync();
  INFO(describe(result));
  CHECK(result.state == State::Committed);
  CHECK(result.version == 5);
  CHECK(m.source.complaints == std::vector<std::string>());
  CHECK(m.source.objects_sent == objects);
  CHECK(m.source.packs_sent == 5);
  CHECK(m.differences() == "");

  SECTION("a pack that is gone: nodes are walked") {
    m.file("big", text += "more\n");
    const auto& snapshot = m.publish();
    (void)snapshot;
    m.source.gone.insert(m.last_pack());
    result = m.sync();
    CHECK(result.state == State::Committed);
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a damaged pack is complained about, and walked around") {
    m.file("big", text += "more\n");
    m.publish();
    m.source.damaged.insert(m.last_pack());
    result = m.sync();
    CHECK(result.state == State::Committed);
    CHECK(m.source.complaints.size() == 2);  // each time it came
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a base that somebody edited: its content is fetched whole") {
    std::ofstream(m.b() + "/big", std::ios::app) << "vandal";
    m.file("big", text += "more\n");
    result = m.publish_and_sync();
    INFO(describe(result));
    CHECK(result.state == State::Committed);
    CHECK(m.source.objects_sent == objects + 1);
  }
  SECTION("a pack cut off in the middle is continued") {
    m.file("noise", [] {
      std::string noise;
      for (unsigned x = 1; noise.size() < 60'000; x = x * 1664525 + 1013904223)
        noise += static_cast<char>(x >> 24);
      return noise;
    }());
    m.publish();
    m.source.fail_after_bytes = 20'000;
    const auto before = m.source.bytes_received();
    CHECK_THROWS_AS(m.sync(), tree::SourceError);
    CHECK(m.sync().state == State::Committed);
    CHECK(m.source.bytes_received() - before < 90'000);
  }
  CHECK(m.differences() == "");
}
