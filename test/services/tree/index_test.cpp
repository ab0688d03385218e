#include "services/tree/index.hpp"

#include "proto/sha256.hpp"
#include "services/tree/hard_links.hpp"
#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Entry;
using proto::EntryType;
using proto::Node;
using test::TempDir;

namespace {

Entry file(ByteView name, ByteView content, std::uint32_t uid = 0) {
  Entry e;
  e.name = name;
  e.mode = 0644;
  e.uid = uid;
  e.size = content.size();
  e.content = proto::sha256(content);
  return e;
}

// The child's id is seal_pending's to fill in.
Entry directory(ByteView name) {
  Entry e;
  e.name = name;
  e.type = EntryType::Directory;
  e.mode = 0755;
  e.content = proto::sha256("not yet known");
  return e;
}

DirectoryRow row(ByteView path, const std::vector<Entry>& entries, std::uint64_t ino = 1) {
  DirectoryRow r;
  r.path = path;
  r.node = proto::encode_node({entries});
  for (std::size_t i = 0; i < entries.size(); ++i) {
    r.stats.emplace_back();
    r.stats.back().ino = ino + i;
  }
  return r;
}

RootRow root() {
  RootRow r;
  r.entry = directory("");
  return r;
}

StoredVersion version(Index& index, std::uint64_t number) {
  const RootRow top = index.seal_pending().value();
  StoredVersion v;
  v.record.tree = proto::TreeId::from_bytes("0123456789abcdef");
  v.record.number = number;
  v.record.counts = index.latest_totals().counts;
  v.root = {top.entry, proto::sha256(proto::encode_links(index.hard_links().table())),
            proto::sha256(proto::encode_owners({}))};
  v.record.tree_hash = proto::tree_hash(v.root);
  v.body = "body " + std::to_string(number);
  return v;
}

void commit(Index& index, std::uint64_t number) {
  const StoredVersion v = version(index, number);
  index.commit_version(v, proto::encode_links(index.hard_links().table()), proto::encode_owners({}));
}

std::vector<Bytes> paths(const Index& index, ByteView under = "") {
  std::vector<Bytes> found;
  index.each_directory(under, [&](const DirectoryRow& r) {
    found.push_back(r.path);
    return true;
  });
  return found;
}

std::vector<Bytes> pending(const Index& index) {
  std::vector<Bytes> found;
  index.each_pending(Index::Order::Forward, [&](const PendingRow& p) {
    found.push_back((p.removed ? "-" : "+") + p.row.path);
    return true;
  });
  return found;
}

// a/{deep/f, x}, a-b/, f
void stage_first(Index& index) {
  index.stage_root(root());
  index.stage(row("", {directory("a"), directory("a-b"), file("f", "one", 5)}));
  index.stage(row("a", {directory("deep"), file("x", "two")}, 10));
  index.stage(row("a/deep", {file("f", "three")}, 20));
  index.stage(row("a-b", {}));
}

}  // namespace

TEST_CASE("ids are filled in from the leaves up", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  CHECK_FALSE(index.newest());
  stage_first(index);
  CHECK(index.has_pending());
  commit(index, 1);
  CHECK_FALSE(index.has_pending());

  const Bytes deep = proto::encode_node({{file("f", "three")}});
  Entry deep_entry = directory("deep");
  deep_entry.content = proto::node_id(deep);
  const Bytes a = proto::encode_node({{deep_entry, file("x", "two")}});
  CHECK(index.directory("a/deep")->node == deep);
  CHECK(index.directory("a")->node == a);
  CHECK(index.directory("a")->id == proto::node_id(a));
  CHECK(index.directory("a")->stats[1].ino == 11);
  CHECK(index.root()->entry.content == index.directory("")->id);
  std::vector<Bytes> nodes;
  index.each_node("a", "a-b", [&](const Index::NodeRow& n) {
    nodes.push_back(n.path);
    return true;
  });
  CHECK(nodes == std::vector<Bytes>{"a", "a/deep", "a-b"});
  CHECK(index.counts() == proto::TreeCounts{6, 3, 3, 0, 11});
  CHECK(paths(index) == std::vector<Bytes>{"", "a", "a/deep", "a-b"});
  CHECK(paths(index, "a") == std::vector<Bytes>{"a", "a/deep"});
  CHECK(index.paths_of_node(proto::node_id(deep)) == std::vector<Bytes>{"a/deep"});
  CHECK(index.latest_totals().users == std::vector<std::uint32_t>{0, 5});
  CHECK(index.newest()->body == "body 1");
  CHECK(index.newest()->record.tree_hash == proto::tree_hash(index.newest()->root));
}

TEST_CASE("a deep change changes every directory above it and nothing else", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  stage_first(index);
  commit(index, 1);
  const Hash before = index.directory("a/deep")->id;

  index.stage(row("a/deep", {file("f", "three!"), file("g", "")}, 30));
  CHECK(index.latest("a/deep")->stats.size() == 2);
  const StoredVersion second = version(index, 2);
  CHECK(pending(index) == std::vector<Bytes>{"+", "+a", "+a/deep"});
  CHECK(index.latest_totals().counts == proto::TreeCounts{7, 4, 3, 0, 12});
  CHECK(index.counts().entries == 6);
  index.commit_version(second, proto::encode_links({}), proto::encode_owners({}));
  CHECK(index.counts() == second.record.counts);

  // The old node stays readable while version 1 is retained.
  CHECK(index.blob(before) == proto::encode_node({{file("f", "three")}}));
  CHECK(index.blob(index.version(1)->record.tree_hash));
  CHECK(index.blob(index.directory("a/deep")->id));
  index.forget_versions_below(2);
  CHECK_FALSE(index.blob(before));
  CHECK_FALSE(index.version(1));
  CHECK(index.blob(second.root.links));
  CHECK(index.blob(second.record.tree_hash));
  index.forget_versions_below(99);
  CHECK(index.newest()->record.number == 2);
}

TEST_CASE("what turns out as it was leaves nothing pending", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  stage_first(index);
  commit(index, 1);

  index.stage(row("a/deep", {file("f", "changed")}, 30));
  REQUIRE(index.seal_pending());
  CHECK(pending(index).size() == 3);
  index.stage(row("a/deep", {file("f", "three")}, 40));
  REQUIRE(index.seal_pending());
  CHECK_FALSE(index.has_pending());
  CHECK(index.directory("a/deep")->stats[0].ino == 40);
}

TEST_CASE("a removed directory takes its subtree along", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  stage_first(index);
  index.hard_links().set("a/x", {1, 11});
  index.hard_links().set("f", {1, 11});
  commit(index, 1);
  CHECK(index.hard_links().table() == proto::LinksTable{{{"a/x", "f"}}});

  index.stage(row("a/new", {file("n", "n")}));
  index.stage_removal("a");
  index.stage(row("", {directory("a-b"), file("f", "one", 5)}));
  CHECK_FALSE(index.latest("a"));
  CHECK_FALSE(index.latest("a/new"));
  CHECK(index.directory("a"));
  CHECK(index.hard_links().paths_of({1, 11}) == std::vector<Bytes>{"f"});
  CHECK(index.hard_links().table().groups.empty());
  commit(index, 2);
  CHECK(paths(index) == std::vector<Bytes>{"", "a-b"});
  CHECK(index.counts() == proto::TreeCounts{2, 1, 1, 0, 3});
}

TEST_CASE("a directory its parent does not know is a fault, not a version", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  stage_first(index);
  index.stage(row("a/unknown", {}));
  CHECK(index.seal_pending().error() == proto::Reject::BadHash);
  index.drop_pending();
  stage_first(index);
  index.stage(row("a/no/such", {}));
  CHECK(index.seal_pending().error() == proto::Reject::BadHash);
}

TEST_CASE("versions are announced once, in order", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  stage_first(index);
  StoredVersion first = version(index, 1);
  first.pack = proto::PackRef{proto::sha256("pack"), 4, 2, proto::sha256("pa")};
  index.commit_version(first, proto::encode_links({}), proto::encode_owners({}));
  index.stage(row("a-b", {file("y", "y")}));
  commit(index, 2);
  CHECK(index.unannounced() == std::vector<std::uint64_t>{1, 2});
  index.mark_announced(1, "sealed");
  CHECK(index.unannounced() == std::vector<std::uint64_t>{2});
  CHECK(index.version(1)->sealed == "sealed");
  CHECK(index.version(1)->announced);
  CHECK(index.version(1)->pack == first.pack);
  CHECK_FALSE(index.version(2)->pack);
}

TEST_CASE("an uncommitted batch leaves no trace", "[index]") {
  const TempDir tmp;
  {
    Index index(tmp / "index", {.durable = false});
    stage_first(index);
    commit(index, 1);
    Index::Batch batch(index);
    index.set_setting("k", "v");
    index.stage_removal("a");
  }
  Index index(tmp / "index");
  CHECK_FALSE(index.setting("k"));
  CHECK_FALSE(index.has_pending());
  Index::Batch outer(index);
  { Index::Batch inner(index); }
  CHECK_THROWS_AS(outer.commit(), std::logic_error);
}

TEST_CASE("many directories stream in pieces", "[index]") {
  const TempDir tmp;
  Index index(tmp / "index", {.durable = false});
  Index::Batch batch(index);
  index.stage_root(root());
  std::vector<Entry> names;
  for (int i = 100; i < 400; ++i) names.push_back(directory(std::to_string(i)));
  index.stage(row("", names));
  for (const Entry& e : names) index.stage(row(e.name, {file("f", e.name)}));
  commit(index, 1);
  CHECK(paths(index).size() == 301);
  for (const Entry& e : names) index.stage(row(e.name, {file("f", "same")}));
  REQUIRE(index.seal_pending());
  std::vector<Bytes> back;
  index.each_pending(Index::Order::Backward, [&](const PendingRow& p) {
    back.push_back(p.row.path);
    return back.size() < 150;
  });
  CHECK(back.size() == 150);
  CHECK(back.front() == "399");
  CHECK(back.back() == "250");
  batch.commit();
}
