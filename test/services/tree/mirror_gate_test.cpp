// Every system call of a sync is one at which the process may die, or which may fail: with a full
// disk or quota, a broken or read-only one, or no descriptors left. Once, or from then on. Whatever
// came of it: path by path old or new, nothing called committed that is not so, and the next run
// without the fault comes out right.
#include "test/services/tree/mirror_story.hpp"
#include "test/support/environment.hpp"
#include "test/support/syscall_gate.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <span>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;

namespace {

// One word, then why.
std::string sync_says(Story& story) {
  const auto result = story.m.sync();
  story.m.close();
  switch (result.state) {
    case State::Committed: return "committed";
    case State::Incomplete: return "incomplete" + describe(result);
    case State::Unchanged: return "unchanged";
    case State::Refused: return "refused " + describe(result);
    case State::Failed: return "failed " + describe(result);
  }
  return "";
}

// The next run, without faults; mends what a committed version lacks.
std::string finish(Story& story) {
  std::string wrong;
  auto result = story.m.sync();
  if (const auto version = story.m.index().newest(); version && version->incomplete)
    result = story.m.repair();
  if (result.state != State::Committed && result.state != State::Unchanged)
    wrong = describe(result);
  wrong += story.m.differences();
  if (!story.m.verify().equal()) wrong += "; verify finds differences";
  story.m.close();
  return wrong;
}

bool gates_work() {
  try {
    at_the_gate(Calls::All, [] { return std::string(); }, [](std::uint64_t) { return Verdict(); });
    return true;
  } catch (const std::exception& error) {
    WARN("not tested: " << error.what());
    return false;
  }
}

struct Kind {
  std::uint64_t seed;
  bool first_sync, packs;
};
constexpr Kind kKinds[] = {{1, false, false}, {2, false, true}, {3, true, false}, {4, false, true},
                           {5, true, false},  {6, false, false}, {7, false, true}, {8, true, false}};

struct Tally {
  std::map<std::string, int> outcomes;
  void add(const GateResult& result) {
    ++outcomes[result.killed ? "killed" : result.said.substr(0, result.said.find_first_of(" :\n"))];
  }
  void print(const std::string& what) const {
    std::printf("%s:", what.c_str());
    for (const auto& [outcome, count] : outcomes)
      std::printf(" %d %s", count, outcome.c_str());
    std::printf("\n");
  }
};

// Runs a sync once for every `step`-th call; `verdict` of that call, or of all from it on.
void at_each_call(const Kind& kind, Calls calls, std::uint64_t step, const Verdict& verdict,
                  bool from_then_on, Tally& tally) {
  for (std::uint64_t at = kind.seed % step;; at += step) {
    Story story(kind.seed, kind.first_sync, kind.packs);
    const GateResult result =
        at_the_gate(calls, [&] { return sync_says(story); }, [&](std::uint64_t number) {
          return number == at || (from_then_on && number > at) ? verdict : Verdict();
        });
    if (result.calls <= at) return;
    tally.add(result);
    INFO("story " << kind.seed << ", call " << at << " of " << result.calls << ": errno "
                  << verdict.error << (from_then_on ? " from then on" : "") << "; it said "
                  << result.said);
    CHECK((result.killed || !result.said.empty()));
    CHECK(story.half_way() == "");
    if (result.said == "committed") CHECK(story.m.differences() == "");
    CHECK(finish(story) == "");
  }
}

}  // namespace

TEST_CASE("killed before any system call, a mirror comes out right", "[mirror][gate][kills]") {
  if (!gates_work()) return;
  Tally tally;
  for (const Kind& kind : kKinds)
    at_each_call(kind, Calls::All, number_from("MIRRORBUS_GATE_STRIDE", 59), {0, true}, false, tally);
  tally.print("killed before a call");
}

TEST_CASE("whatever system call fails, a mirror says so and comes out right",
          "[mirror][gate][errors]") {
  if (!gates_work()) return;
  const struct {
    int error;
    const char* name;
    Calls calls;
  } faults[] = {{ENOSPC, "ENOSPC", Calls::Changes}, {EDQUOT, "EDQUOT", Calls::Changes},
                {EIO, "EIO", Calls::All},           {EROFS, "EROFS", Calls::Changes},
                {EMFILE, "EMFILE", Calls::Opens}};
  for (const auto& fault : faults)
    for (const bool on : {false, true}) {
      Tally tally;
      for (const Kind& kind : std::span(kKinds).first(3))
        at_each_call(kind, fault.calls, number_from("MIRRORBUS_GATE_STRIDE", 149), {fault.error},
                     on, tally);
      tally.print(std::string(fault.name) + (on ? " from then on" : " once"));
    }
}
