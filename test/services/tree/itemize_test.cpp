#include "services/tree/itemize.hpp"

#include "test/support/environment.hpp"
#include "test/support/oracle.hpp"
#include "test/support/random_tree.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/tree_snapshot.hpp"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <sys/stat.h>
#include <unistd.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using test::TreeSnapshot;

namespace {

using Lines = std::vector<std::string>;

ItemizedTree side_of(const TreeSnapshot& snapshot) {
  return {snapshot.root, *proto::decode_links(snapshot.blobs.at(snapshot.root.links)),
          [&snapshot](const proto::Hash& id) { return snapshot.blobs.at(id); },
          [&snapshot](const proto::Hash& id) { return snapshot.blobs.at(id); }};
}

// A tree and a copy of it from before it was changed.
struct TwoVersions {
  explicit TwoVersions(std::uint64_t seed) : tree((make(), now()), seed) {}
  test::TempDir tmp;
  test::RandomTree tree;

  std::string now() const { return tmp / "now"; }
  std::string was() const { return tmp / "was"; }
  void make() { std::filesystem::create_directory(now()); }
  void keep() const {
    REQUIRE(std::system(("rm -rf " + was() + " && cp -a " + now() + " " + was()).c_str()) == 0);
  }
};

void in_pages(const Itemizer& itemizer, std::size_t limit,
              const std::function<void(const Itemized&)>& sink) {
  std::optional<Bytes> after;
  for (bool more = true; more;) {
    std::size_t count = 0;
    more = false;
    itemizer.each(after, [&](const Itemized& item) {
      sink(item);
      after = item.path;
      more = ++count == limit;
      return !more;
    });
  }
}

// Lines of what is not linked as they are; of a group of names only that it changes: which of them
// the others are linked to is rsync's affair. Links that were broken rsync does not notice.
struct Comparable {
  const ItemizedTree& was;
  const ItemizedTree& now;
  std::map<std::string, std::string> group;  // a name as printed: its group
  std::map<std::string, bool> hidden;

  Comparable(const ItemizedTree& w, const ItemizedTree& n) : was(w), now(n) {
    for (const auto& names : was.links.groups)
      for (const Bytes& name : names) hidden[printable(name)] = true;
    for (std::size_t at = 0; at < now.links.groups.size(); ++at)
      for (const Bytes& name : now.links.groups[at]) {
        group[printable(name)] = "group " + std::to_string(at);
        hidden.erase(printable(name));
      }
  }
  void add(const std::string& line, Lines& into) const {
    if (line.starts_with("rsync")) return;  // what it says of a path it could not stat
    std::string letters = line.substr(0, 11), name = line.substr(12);
    // rsync takes a block device for a character device.
    if (letters[1] == 'D') letters = "?D";
    if (letters.starts_with("*")) return into.push_back(line);
    const auto named = [&](const std::string& mark) {
      return mark.empty() ? name : name.substr(0, name.rfind(mark));
    };
    for (const std::string mark : {"", " => ", " -> "}) {
      if (hidden.contains(named(mark)) && letters.size() == 11 && letters[2] == '.') {
        letters[0] = '.';
        if (letters.substr(2) == ".........") return;
      }
      if (const auto found = group.find(named(mark)); found != group.end())
        return into.push_back(found->second + " changes");
    }
    into.push_back(letters + " " + name);
  }
};

Lines sorted(Lines lines) {
  std::ranges::sort(lines);
  lines.erase(std::ranges::unique(lines).begin(), lines.end());
  return lines;
}

Lines rsync_lines(const std::string& from, const std::string& to, const Comparable& comparable) {
  Lines lines;
  std::istringstream text(test::itemized(from, to, "--no-inc-recursive"));
  for (std::string line; std::getline(text, line);) comparable.add(line, lines);
  return sorted(std::move(lines));
}

Lines missing_from(const Lines& these, const Lines& those) {
  Lines only;
  std::ranges::set_difference(these, those, std::back_inserter(only));
  return only;
}

void check_against_rsync(const TwoVersions& versions, std::size_t page) {
  const auto was = test::take_snapshot(versions.was(), 1);
  const auto now = test::take_snapshot(versions.now(), 2);
  const ItemizedTree a = side_of(was), b = side_of(now);
  const Comparable comparable(a, b);
  const Itemizer itemizer(a, b, ::geteuid() == 0);
  Lines ours;
  in_pages(itemizer, page, [&](const Itemized& item) { comparable.add(to_line(item), ours); });
  ours = sorted(std::move(ours));
  const Lines theirs = rsync_lines(versions.now(), versions.was(), comparable);
  CHECK(missing_from(theirs, ours) == Lines{});
  CHECK(missing_from(ours, theirs) == Lines{});
}

}  // namespace

TEST_CASE("differences read as rsync's", "[itemize]") {
  for (std::uint64_t seed = test::number_from("MIRRORBUS_SEED", 1), end = seed + 12; seed < end;
       ++seed) {
    INFO("seed " << seed);
    TwoVersions versions(seed);
    versions.tree.grow(60);
    versions.keep();
    versions.tree.mutate(40);
    check_against_rsync(versions, 1 + seed % 5);
  }
}

TEST_CASE("every kind of difference reads as rsync's", "[itemize]") {
  TwoVersions versions(1);
  const auto file = [&](const std::string& name, const std::string& content) {
    std::filesystem::create_directories(
        std::filesystem::path(versions.now() + "/" + name).parent_path());
    std::ofstream(versions.now() + "/" + name) << content;
  };
  const auto sh = [&](const std::string& script) {
    REQUIRE(std::system(("cd " + versions.now() + " && " + script).c_str()) == 0);
  };
  file("dir becomes file/sub/x", "x");
  file("dir becomes file/y", "y");
  file("file becomes dir", "f");
  file("file becomes link", "f");
  file("gone/deep/1", "1");
  file("size", "short");
  file("same size", "abc");
  file("mode", "m");
  file("time", "t");
  file("\xc3\xbc", "utf-8");
  sh("ln -s one link; mkfifo fifo; echo s > a; ln a b; ln a c; echo q > pair1; ln pair1 pair2;"
     "echo j > j1; cp -p j1 j2; echo old > z");
  versions.keep();
  sh("rm -r 'dir becomes file' gone; echo > 'dir becomes file'; rm 'file becomes dir';"
     "mkdir -p 'file becomes dir/below'; rm 'file becomes link'; ln -s t 'file becomes link';"
     "echo longer than that > size; printf xyz > 'same size'; chmod 600 mode; touch -d @7 time;"
     "ln -sfn two link; touch -d @9 fifo; echo more >> a; touch -d @11 pair1; ln -f j1 j2;"
     "mkdir new; echo n > new/n1; ln new/n1 new/n2; ln z new/z2; rm \xc3\xbc;"
     "touch \"$(printf 'new\\nline')\" \"$(printf 'bad\\377')\" '\\#012' 'sp ace' 'a\\b'; touch -d @5 .");
  check_against_rsync(versions, 1000);
  check_against_rsync(versions, 1);
}

TEST_CASE("without a tree before everything is new", "[itemize]") {
  TwoVersions versions(1);
  versions.make();
  std::filesystem::create_directory(versions.now() + "/d");
  std::ofstream(versions.now() + "/d/f") << "f";
  const auto now = test::take_snapshot(versions.now(), 1);
  Lines lines;
  in_pages(Itemizer({}, side_of(now)), 10,
           [&](const Itemized& item) { lines.push_back(to_line(item)); });
  CHECK(lines == Lines{"cd+++++++++ ./", "cd+++++++++ d/", ">f+++++++++ d/f"});
}

TEST_CASE("a link that is broken is told of, and only that", "[itemize]") {
  TwoVersions versions(1);
  versions.make();
  const auto sh = [&](const std::string& script) {
    REQUIRE(std::system(("cd " + versions.now() + " && " + script).c_str()) == 0);
  };
  sh("mkdir d; echo 1 > d/a; ln d/a d/b; echo 2 > d/c; ln d/c e");
  const auto was = test::take_snapshot(versions.now(), 1, nullptr, true);
  sh("touch -r d ../stamp; cp -p d/b d/n; mv d/n d/b; rm e; touch -r ../stamp d");
  const auto now = test::take_snapshot(versions.now(), 2);
  Lines lines;
  in_pages(Itemizer(side_of(was), side_of(now)), 10, [&](const Itemized& item) {
    if (!item.path.empty()) lines.push_back(to_line(item));
  });
  CHECK(lines == Lines{">f......... d/a", ">f......... d/b", "*deleting   e"});
}
