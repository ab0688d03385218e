#include "services/tree/changes.hpp"

#include "test/services/tree/model_tree.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using test::ModelTree;

namespace {

struct Step {
  test::TempDir tmp;
  Index index{tmp / "index", {.durable = false}};
  ModelTree model;
  std::optional<TreeSide> was;

  TreeSide commit() {
    const auto v = model.commit(index);
    return {v.root.entry,
            [this](const Bytes&, const Hash& id) { return index.blob(id).value(); }};
  }
  // "op path" lines, and "*" behind those that are only times.
  std::vector<std::string> changes() {
    const TreeSide now = commit();
    std::vector<std::string> lines;
    diff_trees(was, now, [&](const TreeChange& c) {
      std::string line = std::string(to_string(c.change.op)) + " " + c.change.path;
      if (!c.change.to.empty()) line += " " + c.change.to;
      if (c.directory) line += "/";
      if (c.times_only) line += " *";
      lines.push_back(line);
      return true;
    });
    return lines;
  }
};
using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a first version is what the root holds", "[changes]") {
  Step s;
  s.model.file("a/b", "x");
  s.model.file("f", "y");
  CHECK(s.changes() == Lines{"add a/", "add f"});
}

TEST_CASE("changes are told in tree order", "[changes]") {
  Step s;
  s.model.file("dir/changed", "old");
  s.model.file("dir/gone", "gone");
  s.model.file("dir/meta", "m");
  s.model.file("gone/x", "1");
  s.model.file("gone/y", "2");
  s.model.symlink("link", "a");
  s.model.file("type", "t");
  s.model.file("same", "s");
  s.was = s.commit();
  s.model.file("dir/changed", "new");
  s.model.remove("dir/gone");
  s.model.entries["dir/meta"].mode = 0600;
  s.model.remove("gone");
  s.model.file("fresh/deep/z", "3");
  s.model.symlink("link", "b");
  s.model.remove("type");
  s.model.directory("type");
  s.model.entries["dir"].mtime_s += 5;  // explained by the name that went
  CHECK(s.changes() == Lines{"change dir/changed", "delete dir/gone", "meta dir/meta", "add fresh/",
                             "delete gone/", "change link", "change type/"});
}

TEST_CASE("moves are told once, at the old path", "[changes]") {
  Step s;
  s.model.file("a/sub/1", "one");
  s.model.file("a/sub/2", "two");
  s.model.file("f", "file");
  s.model.file("twin1", "twin");
  s.model.file("twin2", "twin");
  s.model.file("empty", "");
  s.model.directory("z");
  s.was = s.commit();
  s.model.move("a", "z/a");
  s.model.move("f", "g");
  s.model.move("twin1", "twin3");
  s.model.move("empty", "void");
  CHECK(s.changes() == Lines{"move a z/a/", "delete empty", "move f g", "move twin1 twin3",
                             "add void"});
}

TEST_CASE("times alone are known as such", "[changes]") {
  Step s;
  s.model.file("d/f", "x");
  s.model.directory("e");
  s.was = s.commit();
  s.model.entries["d"].mtime_s += 1;
  s.model.entries["d/f"].mtime_ns = 7;
  s.model.entries["e"].mode = 0700;
  s.model.root.mtime_s = 9;
  CHECK(s.changes() == Lines{"meta / *", "meta d/ *", "meta d/f *", "meta e/"});
}

TEST_CASE("who has heard enough is told no more", "[changes]") {
  Step s;
  for (int i = 0; i < 10; ++i) s.model.file(std::to_string(i), "x");
  s.was = s.commit();
  for (int i = 0; i < 10; ++i) s.model.file(std::to_string(i), "y");
  const TreeSide now = s.commit();
  int heard = 0;
  diff_trees(s.was, now, [&](const TreeChange&) { return ++heard < 3; });
  CHECK(heard == 3);
}
