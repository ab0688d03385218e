// A mirror in the middle of its life, to be killed or let down at any point: what may be there
// afterwards, and what must come of it in the end.
#pragma once

#include "test/services/tree/mirror_fixture.hpp"
#include "test/support/path_contents.hpp"
#include "test/support/random_tree.hpp"

namespace mirrorbus::test {

// Version 1 is mirrored; a has gone on to version 2.
struct Story {
  TempDir tmp;
  Mirror m{tmp.path()};
  RandomTree tree;
  PathContents before, after;

  Story(std::uint64_t seed, bool first_sync, bool packs, bool snapshot = false)
      : tree(make_a(tmp), seed) {
    m.settings.snapshot = snapshot;
    if (packs) m.make_packs();
    tree.grow(40);
    if (!first_sync) {
      m.publish();
      if (m.sync().state != tree::SyncResult::State::Committed) throw std::runtime_error("the first sync failed");
      before = path_contents(m.b());
      tree.mutate(25);
    }
    m.publish();
    after = path_contents(m.a());
    m.close();  // SQLite is not to be carried across a fork
  }
  static std::string make_a(const TempDir& tmp) {
    std::filesystem::create_directory(tmp / "a");
    return tmp / "a";
  }
  std::string half_way() {
    if (!std::filesystem::exists(m.b())) return before.empty() ? "" : "the tree is gone";
    return neither_old_nor_new(before, after, path_contents(m.b()));
  }
  std::string finish() {
    const auto result = m.sync();
    std::string wrong;
    if (result.state != tree::SyncResult::State::Committed && result.state != tree::SyncResult::State::Unchanged)
      wrong = describe(result);
    if (result.edits.count() > 0)
      wrong += " own work taken for somebody else's: " + describe(result);
    return wrong + m.differences();
  }
};

}  // namespace mirrorbus::test
