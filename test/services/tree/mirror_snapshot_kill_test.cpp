// A mirror with snapshots, killed or let down at one call after the other: the link shows the old
// version or the new one, whole, at any time; and the next run comes out right.
#include "test/services/tree/killed_sync.hpp"
#include "test/support/environment.hpp"
#include "test/support/syscall_gate.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;
using Step = tree::Probe::Step;

namespace {

// Version 1 is shown and a has gone on to 2; what either was is kept beside them.
struct SnapshotStory : Story {
  SnapshotStory(std::uint64_t seed, bool first_sync, bool packs)
      : Story(seed, first_sync, packs, true), first(first_sync) {
    if (!first) copy_tree(m.b(), before_dir());
  }
  std::string before_dir() const { return tmp / "before"; }
  bool first;

  // Empty if what is shown is one of them, as a whole.
  std::string whole() {
    if (!std::filesystem::is_symlink(std::filesystem::symlink_status(m.b())))
      return first ? "" : "the link is gone";
    if (!first && oracle(before_dir(), m.b()).empty()) return "";
    return m.differences();
  }
  std::string carry_on() {
    m.settle();
    std::string wrong = whole();
    auto result = m.sync();
    if (const auto version = m.index().newest(); version && version->incomplete)
      result = m.repair();
    if (result.state != State::Committed && result.state != State::Unchanged)
      wrong += describe(result);
    wrong += m.differences();
    if (!m.verify().equal()) wrong += "; verify finds differences";
    if (!first && oracle(before_dir(), m.settings.work + "/versions/1") != "")
      wrong += "; version 1 is not what it was";
    m.close();
    return wrong;
  }
};

void kill_everywhere(std::uint64_t seed, bool first_sync, bool packs, long step,
                     const std::string& boot_after) {
  for (long at = static_cast<long>(seed) % step;; at += step) {
    SnapshotStory story(seed, first_sync, packs);
    KillingProbe probe(at);
    story.m.settings.boot = "before";
    const bool was_killed = sync_killed(story, probe);
    story.m.settings.boot = boot_after;
    INFO("seed " << seed << " change " << at << (first_sync ? " of a first sync" : ""));
    CHECK(story.whole() == "");
    CHECK(story.carry_on() == "");
    if (!was_killed) return;
  }
}

}  // namespace

TEST_CASE("killed at any change, the link shows one version as a whole",
          "[mirror][snapshot][kill]") {
  const long stride = static_cast<long>(number_from("MIRRORBUS_KILL_STRIDE", 19));
  kill_everywhere(1, false, false, stride, "before");
  kill_everywhere(2, false, true, stride, "after");
  kill_everywhere(3, true, false, 2 * stride, "before");
}

TEST_CASE("killed at each of the steps, the link shows one version as a whole",
          "[mirror][snapshot][kill]") {
  for (const bool first : {false, true})
    for (const Step step :
         {Step::Planned, Step::Staged, Step::Applied, Step::Checked, Step::Committed}) {
      SnapshotStory story(7, first, false);
      KillingProbe probe;
      probe.kill_at = step;
      INFO("step " << static_cast<int>(step) << " first " << first);
      CHECK(sync_killed(story, probe));
      if (step != Step::Committed && !first) CHECK(oracle(story.before_dir(), story.m.b()) == "");
      CHECK(story.whole() == "");
      CHECK(story.carry_on() == "");
    }
}

TEST_CASE("killed again and again with a new version each time, snapshots come out right",
          "[mirror][snapshot][kill]") {
  const std::uint64_t seeds = 72 / number_from("MIRRORBUS_KILL_STRIDE", 18);
  for (std::uint64_t seed = 20; seed < 20 + seeds; ++seed) {
    SnapshotStory story(seed, false, seed % 2 == 0);
    for (std::uint64_t round = 0; round < 5; ++round) {
      KillingProbe probe;
      probe.left = static_cast<long>((seed * 31 + round * 17) % 150);
      sync_killed(story, probe);
      story.tree.mutate(6);
      story.m.publish();
      story.m.close();
    }
    INFO("seed " << seed);
    story.first = true;  // several have come by: only the end is known
    story.m.settle();
    const auto result = story.m.sync();
    INFO(describe(result));
    CHECK(story.m.differences() == "");
    CHECK(story.m.verify().equal());
  }
}

TEST_CASE("whatever system call kills or fails, the link shows one version as a whole",
          "[mirror][snapshot][gate]") {
  const std::uint64_t step = number_from("MIRRORBUS_GATE_STRIDE", 149);
  const Verdict verdicts[] = {{0, true}, {ENOSPC}, {EIO}};
  for (const Verdict& verdict : verdicts)
    for (std::uint64_t at = 5;; at += step) {
      SnapshotStory story(at % 5 + 1, at % 4 == 0, at % 2 == 0);
      const Calls calls = verdict.error == ENOSPC ? Calls::Changes : Calls::All;
      const GateResult result = at_the_gate(
          calls,
          [&] {
            const auto synced = story.m.sync();
            story.m.close();
            return synced.state == State::Committed ? "committed" : "not " + describe(synced);
          },
          [&](std::uint64_t number) { return number == at ? verdict : Verdict(); });
      if (result.calls <= at) break;
      INFO("call " << at << " of " << result.calls << ": errno " << verdict.error << "; it said "
                   << result.said);
      CHECK((result.killed || !result.said.empty()));
      CHECK(story.whole() == "");
      if (result.said == "committed") CHECK(story.m.differences() == "");
      CHECK(story.carry_on() == "");
    }
}
