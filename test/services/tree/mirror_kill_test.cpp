// kill -9 at one system call after the other. What is there afterwards must be, path by path, old
// or new; and whatever the next run is for, it must come out right.
#include "test/services/tree/killed_sync.hpp"
#include "test/support/environment.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
using Step = tree::Probe::Step;

namespace {

long stride(long usual) {
  return static_cast<long>(number_from("MIRRORBUS_KILL_STRIDE", static_cast<std::uint64_t>(usual)));
}

void kill_everywhere(std::uint64_t seed, bool first_sync, bool packs, long step) {
  for (long at = static_cast<long>(seed) % step;; at += step) {
    Story story(seed, first_sync, packs);
    KillingProbe probe(at);
    const bool was_killed = sync_killed(story, probe);
    INFO("seed " << seed << " change " << at << (first_sync ? " of a first sync" : ""));
    CHECK(story.half_way() == "");
    CHECK(story.finish() == "");
    if (!was_killed) return;
  }
}

}  // namespace

TEST_CASE("killed at any change, a mirror comes out right", "[mirror][kill]") {
  kill_everywhere(1, false, false, stride(11));
  kill_everywhere(2, false, true, stride(11));
  kill_everywhere(3, true, false, stride(23));
}

TEST_CASE("killed at each of the steps, a mirror comes out right", "[mirror][kill]") {
  for (const bool first : {false, true})
    for (const Step step :
         {Step::Planned, Step::Staged, Step::Applied, Step::Checked, Step::Committed}) {
      Story story(7, first, false);
      KillingProbe probe;
      probe.kill_at = step;
      INFO("step " << static_cast<int>(step) << " first " << first);
      CHECK(sync_killed(story, probe));
      CHECK(story.half_way() == "");
      CHECK(story.finish() == "");
    }
}

TEST_CASE("killed again and again, with a new version each time", "[mirror][kill]") {
  for (std::uint64_t seed = 20; seed < 20 + static_cast<std::uint64_t>(72 / stride(18)); ++seed) {
    Story story(seed, false, seed % 2 == 0);
    for (int round = 0; round < 5; ++round) {
      KillingProbe probe(
          static_cast<long>((seed * 31 + static_cast<std::uint64_t>(round) * 17) % 90));
      sync_killed(story, probe);
      story.tree.mutate(6);
      story.m.publish();
      story.m.close();
    }
    INFO("seed " << seed);
    CHECK(story.finish() == "");
    CHECK(story.m.verify().equal());
  }
}

TEST_CASE("killed after a reboot's worth of doubt", "[mirror][kill]") {
  for (const long at : {40L, 70L, 100L, 130L}) {
    Story story(9, false, false);
    KillingProbe probe(at);
    story.m.settings.boot = "before";
    sync_killed(story, probe);
    story.m.settings.boot = "after";
    INFO("change " << at);
    CHECK(story.half_way() == "");
    CHECK(story.finish() == "");
  }
}
