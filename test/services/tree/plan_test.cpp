// The plan alone, on trees that exist only as nodes.
#include "services/tree/plan.hpp"

#include "proto/sha256.hpp"
#include "proto/tree_path.hpp"

#include <catch2/catch.hpp>

#include <map>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;
using proto::Reject;

namespace {

// A tree by its paths; directories come by themselves.
struct Paths {
  std::map<Bytes, Entry, proto::PathLess> entries;
  std::map<Bytes, std::uint64_t> inodes;  // else each path has its own

  Paths& file(const Bytes& path, const Bytes& content, std::int64_t mtime = 1) {
    Entry entry;
    entry.mode = 0644;
    entry.mtime_s = mtime;
    entry.size = content.size();
    entry.content = proto::sha256(content);
    return put(path, entry);
  }
  Paths& symlink(const Bytes& path, const Bytes& target) {
    Entry entry;
    entry.type = EntryType::Symlink;
    entry.mode = 0777;
    entry.target = target;
    return put(path, entry);
  }
  Paths& put(const Bytes& path, const Entry& entry) {
    for (ByteView up = proto::parent_path(path); !up.empty(); up = proto::parent_path(up))
      entries.try_emplace(Bytes(up), directory());
    entries[path] = entry;
    return *this;
  }
  static Entry directory() {
    Entry entry;
    entry.type = EntryType::Directory;
    entry.mode = 0755;
    return entry;
  }
};

class Nodes : public TargetNodes {
 public:
  Hash add(const Paths& paths, std::map<Bytes, proto::Node>& by_path) {
    std::map<Bytes, proto::Node> nodes{{Bytes(), {}}};
    for (auto it = paths.entries.rbegin(); it != paths.entries.rend(); ++it) {
      Entry entry = it->second;
      if (entry.type == EntryType::Directory) entry.content = close(nodes[it->first]);
      entry.name = proto::last_name(it->first);
      auto& siblings = nodes[Bytes(proto::parent_path(it->first))].entries;
      siblings.insert(siblings.begin(), entry);
    }
    const Hash id = close(nodes[{}]);
    by_path = nodes;
    return id;
  }
  Hash close(proto::Node& node) {
    std::ranges::sort(node.entries, {}, &Entry::name);
    const Bytes bytes = proto::encode_node(node);
    const Hash id = proto::sha256(bytes);
    bytes_[id] = bytes;
    return id;
  }
  Bytes encoded(const Hash& id) const override { return bytes_.at(id); }

 private:
  std::map<Hash, Bytes> bytes_;
};

class Old : public OldTree {
 public:
  std::map<Bytes, proto::Node> nodes;
  std::map<Bytes, std::uint64_t> inodes;
  std::vector<Bytes> asked;
  int scans = 0;

  OldDirectory at(const Bytes& path) {
    OldDirectory directory{nodes.at(path), {}, {}};
    for (const Entry& entry : directory.node.entries) {
      const Bytes full = proto::join_path(path, entry.name);
      EntryStat stat;
      stat.ino = inodes.contains(full) ? inodes[full] : 1000 + std::hash<Bytes>()(full) % 1'000'000;
      stat.mode = type_bits(entry.type) | entry.mode;
      directory.stats.push_back(stat);
    }
    return directory;
  }
  std::optional<OldDirectory> directory(ByteView path, const EntryStat&,
                                        const proto::Node*) override {
    asked.emplace_back(path);
    if (!nodes.contains(Bytes(path))) return {};
    return at(Bytes(path));
  }
  bool uncertain(ByteView) override { return false; }
  void find_contents(const Wanted& wanted, const Found& found) override {
    ++scans;
    for (const auto& [path, node] : nodes) {
      const OldDirectory directory = at(path);
      for (std::uint32_t i = 0; i < node.entries.size(); ++i)
        if (node.entries[i].type == EntryType::File && wanted(node.entries[i].content))
          found(path, i, node.entries[i], directory.stats[i]);
    }
  }
};

struct World {
  Nodes nodes;
  Old old;
  proto::LinksTable old_links, links;
  proto::TreeRoot root;
  MetadataPolicy policy{{}, {}};
  std::optional<Entry> old_root;
  std::uint64_t entries = 1000;
  bool privileged = true;
  std::function<bool(ByteView)> last;
  std::map<Bytes, proto::Node> target;

  World(const Paths& from, const Paths& to) {
    old_root = Paths::directory();
    old_root->content = nodes.add(from, old.nodes);
    old.inodes = from.inodes;
    root.entry = Paths::directory();
    root.entry.content = nodes.add(to, target);
  }
  proto::Decoded<Plan> plan() {
    PlanInput input{old,  old_root,  {},    nodes, root, entries, old_links,
                    links, policy, last, {},    false, privileged};
    return make_plan(input);
  }
  Bytes path(const Plan& plan, const Plan::Op& op) {
    const Bytes& dir = plan.dirs[op.dir].path;
    return op.at != kNone ? proto::join_path(dir, target.at(dir).entries[op.at].name)
                          : proto::join_path(dir, old.nodes.at(dir).entries[op.was].name);
  }
  std::vector<Bytes> paths(const Plan& plan, const std::vector<Plan::Op>& ops) {
    std::vector<Bytes> out;
    for (const auto& op : ops) out.push_back(path(plan, op));
    return out;
  }
  std::vector<Bytes> dirs(const Plan& plan, const std::vector<std::uint32_t>& numbers) {
    std::vector<Bytes> out;
    for (const auto n : numbers) out.push_back(plan.dirs[n].path);
    return out;
  }
};

using List = std::vector<Bytes>;

}  // namespace

TEST_CASE("equal trees need nothing, and are not gone through", "[plan]") {
  Paths tree;
  tree.file("a/b/c", "x").file("d", "y");
  World world(tree, tree);
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(plan->empty());
  CHECK(world.old.asked.empty());
}

TEST_CASE("only what differs is entered", "[plan]") {
  Paths from, to;
  from.file("a/same", "x").file("b/changed", "1").file("c/meta", "m", 1);
  to.file("a/same", "x").file("b/changed", "2").file("c/meta", "m", 2);
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(world.old.asked == List{"", "b", "c"});
  CHECK(world.paths(*plan, plan->place) == List{"b/changed"});
  CHECK(world.paths(*plan, plan->change) == List{"c/meta"});
  CHECK(plan->inodes.at(0).source == Plan::Source::Fetch);
  CHECK(world.dirs(*plan, plan->finish) == List{"b"});  // "c" had no name changed
  CHECK(plan->bytes_to_fetch() == 1);
}

TEST_CASE("a moved directory is no bytes", "[plan]") {
  Paths from, to;
  from.file("old/one", "1111").file("old/two", "2222").symlink("old/link", "x");
  to.file("new/one", "1111").file("new/two", "2222").symlink("new/link", "x");
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(plan->bytes_to_write() == 0);
  REQUIRE(plan->inodes.size() == 3);
  CHECK(plan->inodes[1].source == Plan::Source::Take);
  CHECK(world.dirs(*plan, plan->make) == List{"new"});
  CHECK(world.dirs(*plan, plan->remove_dirs) == List{"old"});
  CHECK(world.old.scans == 0);
}

TEST_CASE("an inode that is going is taken once, one that stays is copied", "[plan]") {
  Paths from, to;
  from.file("gone", "same").file("stays", "other");
  to.file("n1", "same").file("n2", "same").file("n3", "other").file("stays", "other");
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(plan);
  REQUIRE(plan->inodes.size() == 3);
  CHECK(plan->inodes[0].source == Plan::Source::Take);
  CHECK(plan->inodes[1].source == Plan::Source::Same);
  CHECK(plan->inodes[1].from == 0);
  CHECK(plan->inodes[2].source == Plan::Source::Copy);
  CHECK(plan->dirs[plan->inodes[2].from].path == "");
  CHECK(plan->bytes_to_fetch() == 0);
}

TEST_CASE("two files that swap their contents are two links", "[plan]") {
  Paths from, to;
  from.file("a", "first").file("b", "second");
  to.file("a", "second").file("b", "first");
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(plan);
  for (const auto& inode : plan->inodes) CHECK(inode.source == Plan::Source::Take);
  CHECK(plan->remove.empty());
}

TEST_CASE("types flip in either direction", "[plan]") {
  Paths from, to;
  from.file("d/x", "moved up").file("f", "to be inside").symlink("s", "t");
  to.file("d", "moved up").file("f/inner", "to be inside").file("s", "file now");
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(world.paths(*plan, plan->place) == List{"d", "s", "f/inner"});
  CHECK(world.dirs(*plan, plan->make) == List{"f"});
  CHECK(plan->remove_dirs.empty());  // "d" is exchanged with what comes in its place
  CHECK(plan->remove.empty());
  CHECK(plan->inodes[plan->place[0].from].source == Plan::Source::Take);
  CHECK(plan->inodes[plan->place[2].from].source == Plan::Source::Take);
}

TEST_CASE("link groups are made, broken and changed without bytes", "[plan]") {
  Paths from, to;
  from.file("a", "x").file("b", "x").file("c", "x").file("d", "x");
  from.inodes = {{"a", 7}, {"b", 7}, {"c", 8}, {"d", 9}};
  to = from;

  SECTION("made") {
    World world(from, to);
    world.old_links.groups = {{"a", "b"}};
    world.links.groups = {{"a", "b", "c"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    CHECK(world.paths(*plan, plan->link) == List{"c"});
    CHECK(plan->inodes.empty());
    CHECK(plan->touched.size() == 3);  // its other names' ctime moves as well
    CHECK(plan->members.size() == 3);
  }
  SECTION("broken: one name keeps the inode") {
    World world(from, to);
    world.old_links.groups = {{"a", "b"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    CHECK(world.paths(*plan, plan->place) == List{"b"});
    CHECK(plan->inodes.at(0).source == Plan::Source::Copy);
    CHECK(plan->touched.size() == 2);
  }
  SECTION("split in two groups") {
    World world(from, to);
    world.old_links.groups = {{"a", "b"}};
    world.links.groups = {{"a", "c"}, {"b", "d"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    CHECK(plan->kept.size() == 2);
    CHECK(plan->inodes.empty());
    CHECK(plan->link.size() == 2);
  }
  SECTION("new content: one inode for all") {
    to.file("a", "new").file("b", "new");
    World world(from, to);
    world.old_links.groups = world.links.groups = {{"a", "b"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    REQUIRE(plan->inodes.size() == 1);
    CHECK(plan->inodes[0].uses == 2);
    CHECK(world.paths(*plan, plan->place) == List{"a", "b"});
  }
  SECTION("new time: set once") {
    to.file("a", "x", 5).file("b", "x", 5);
    World world(from, to);
    world.old_links.groups = world.links.groups = {{"a", "b"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    CHECK(plan->change.size() == 1);
    CHECK(plan->touched.size() == 2);
  }
  SECTION("moved with its directory") {
    Paths old_tree, new_tree;
    old_tree.file("p/a", "x").file("p/b", "x");
    old_tree.inodes = {{"p/a", 7}, {"p/b", 7}};
    new_tree.file("q/a", "x").file("q/b", "x");
    World world(old_tree, new_tree);
    world.old_links.groups = {{"p/a", "p/b"}};
    world.links.groups = {{"q/a", "q/b"}};
    const auto plan = world.plan();
    REQUIRE(plan);
    REQUIRE(plan->inodes.size() == 1);
    CHECK(plan->inodes[0].source == Plan::Source::Take);
  }
}

TEST_CASE("a group across directories that otherwise are the same is found", "[plan]") {
  Paths from;
  from.file("p/a", "x").file("q/b", "x").file("r/c", "y");
  World world(from, from);
  world.links.groups = {{"p/a", "q/b"}};
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(world.old.asked == List{"", "p", "q"});
  CHECK(world.paths(*plan, plan->link) == List{"q/b"});
}

TEST_CASE("links that contradict the nodes are refused", "[plan]") {
  Paths from, to;
  from.file("a", "x").file("b", "y").file("c", "z");
  to = from;
  World world(from, to);
  SECTION("unlike contents") { world.links.groups = {{"a", "b"}}; }
  SECTION("a name that there is not") { world.links.groups = {{"a", "missing"}}; }
  SECTION("a directory") {
    to.file("d/e", "x");
    World other(from, to);
    other.links.groups = {{"a", "d"}};
    const auto plan = other.plan();
    REQUIRE(!plan);
    CHECK(plan.error() == Reject::BadField);
    return;
  }
  const auto plan = world.plan();
  REQUIRE(!plan);
  CHECK(plan.error() == Reject::BadField);
}

TEST_CASE("a tree with more entries than signed is refused", "[plan]") {
  Paths from, to;
  to.file("a", "x").file("b", "y").file("c", "z");
  World world(from, to);
  world.entries = 2;
  const auto plan = world.plan();
  REQUIRE(!plan);
  CHECK(plan.error() == Reject::BadCount);
}

TEST_CASE("a path longer than any path may be is refused", "[plan]") {
  Paths from, to;
  Bytes path;
  for (int i = 0; i < 17; ++i) path += Bytes(250, 'd') + "/";
  to.file(path + "f", "x");
  World world(from, to);
  const auto plan = world.plan();
  REQUIRE(!plan);
  CHECK(plan.error() == Reject::TooLarge);
}

TEST_CASE("names that match `last` come last", "[plan]") {
  Paths from, to;
  from.file("Release", "1").file("data", "1");
  to.file("Release", "2").file("data", "2");
  World world(from, to);
  world.last = [](ByteView path) { return path == "Release"; };
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(world.paths(*plan, plan->place) == List{"data"});
  CHECK(world.paths(*plan, plan->place_last) == List{"Release"});
}

TEST_CASE("a plain user's closed directories are opened and closed again", "[plan]") {
  Paths from, to;
  from.file("d/f", "1");
  from.entries["d"].mode = 0555;
  to.file("d/f", "2");
  to.entries["d"].mode = 0555;
  World world(from, to);
  world.privileged = false;
  const auto plan = world.plan();
  REQUIRE(plan);
  const auto dir = std::ranges::find(plan->dirs, "d", &Plan::Directory::path);
  REQUIRE(dir != plan->dirs.end());
  CHECK(dir->unlock);
  CHECK(world.dirs(*plan, plan->finish) == List{"d"});
}

TEST_CASE("devices are left out where they cannot be made", "[plan]") {
  Paths from, to;
  Entry device;
  device.type = EntryType::CharDevice;
  device.mode = 0600;
  device.major = 1;
  device.minor = 3;
  to.put("null", device);
  World world(from, to);
  world.policy = MetadataPolicy({OwnerMode::None, false, {}}, {});
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(plan->place.empty());
  CHECK(plan->inodes.empty());
}

TEST_CASE("the whole of a first version is made", "[plan]") {
  Paths to;
  to.file("a/b/c", "x").file("a/empty", "");
  World world({}, to);
  world.old_root.reset();
  const auto plan = world.plan();
  REQUIRE(plan);
  CHECK(world.dirs(*plan, plan->make) == List{"", "a", "a/b"});
  CHECK(plan->place.size() == 2);
  CHECK(world.old.scans == 0);
  CHECK(plan->inodes[0].source == Plan::Source::Make);  // nothing to get for an empty file
}
