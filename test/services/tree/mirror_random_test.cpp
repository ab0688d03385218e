// Random trees and random changes to them; after each the oracle must find nothing.
#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/as_user.hpp"
#include "test/support/environment.hpp"
#include "test/support/random_tree.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>

using namespace mirrorbus;
using namespace mirrorbus::test;
using State = tree::SyncResult::State;

namespace {

std::uint64_t first_seed() {
  return test::number_from("MIRRORBUS_SEED", 1);
}
std::uint64_t seeds(std::uint64_t usual) {
  return test::number_from("MIRRORBUS_SEEDS", usual);
}

// Throws with everything there is to know.
// `fold`: every pack chain is of so many versions.
void follow(const std::string& top, std::uint64_t seed, int fold = 0) {
  std::filesystem::create_directories(top + "/a");
  RandomTree tree(top + "/a", seed);
  Mirror mirror(top);
  if (fold > 0) mirror.make_packs();
  tree.grow(30);
  std::size_t told = 0;
  for (int step = 0; step < 4; ++step) {
    for (int i = 1; step > 0 && i < fold; ++i) {
      mirror.publish();
      tree.mutate(6);
    }
    const auto packs = mirror.source.packs_sent;
    const auto result = mirror.publish_and_sync();
    std::string wrong;
    if (result.state != State::Committed && result.state != State::Unchanged)
      wrong = describe(result);
    if (result.repaired || result.edits.count() > 0) wrong += " repaired: " + describe(result);
    if (fold > 0 && mirror.source.packs_sent == packs) wrong += " no pack was used";
    wrong += oracle(top + "/a", top + "/b");
    if (!wrong.empty()) {
      std::string text =
          "seed " + std::to_string(seed) + " step " + std::to_string(step) + ": " + wrong;
      for (std::size_t i = told; i < tree.log().size(); ++i) text += "\n  " + tree.log()[i];
      throw std::runtime_error(text);
    }
    told = tree.log().size();
    tree.mutate(step == 0 ? 3 : 12);
  }
}

}  // namespace

TEST_CASE("a mirror follows random trees", "[mirror][random]") {
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + seeds(6); ++seed) {
    const TempDir tmp;
    CHECK_NOTHROW(follow(tmp.path(), seed));
  }
}

TEST_CASE("a mirror follows random trees by packs", "[mirror][random]") {
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + seeds(4); ++seed) {
    const TempDir tmp;
    CHECK_NOTHROW(follow(tmp.path(), seed, 1 + static_cast<int>(seed % 4)));
  }
}

TEST_CASE("a plain user's mirror follows random trees", "[mirror][random]") {
  const std::uint64_t first = first_seed();
  for (std::uint64_t seed = first; seed < first + seeds(4); ++seed) {
    const TempDir tmp;
    std::filesystem::permissions(tmp.path(), std::filesystem::perms::all);
    CHECK(as_user(kPlainUser, [&] { follow(tmp.path(), seed); }) == "");
  }
}
