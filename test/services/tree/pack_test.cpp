#include "services/tree/pack_reader.hpp"
#include "services/tree/pack_writer.hpp"

#include "proto/sha256.hpp"
#include "test/services/tree/model_tree.hpp"
#include "test/support/temp_dir.hpp"

#include <random>

#include <catch2/catch.hpp>

#include <fcntl.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::PackIndex;
using proto::Reject;
using test::ModelTree;
using test::TempDir;

namespace {

Bytes text(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes out;
  while (out.size() < size) out += "line " + std::to_string(random() % 5000) + " of some text\n";
  out.resize(size);
  return out;
}
Bytes noise(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  Bytes out;
  while (out.size() < size) {
    const std::uint64_t word = random();
    out.append(reinterpret_cast<const char*>(&word), 8);
  }
  out.resize(size);
  return out;
}

// One step from the index's newest version to the model, packed and read back.
struct Step {
  TempDir tmp;
  Index index{tmp / "index", {.durable = false}};
  ModelTree model;
  std::optional<StoredVersion> base;
  Bytes pack;
  proto::PackRef ref;
  PackStats stats;
  proto::TreeRoot root;

  std::optional<Bytes> content(const FileRef& file) const {
    const auto it = model.contents.find(file.hash);
    if (it == model.contents.end()) return std::nullopt;
    return it->second;
  }
  void commit() { base = model.commit(index); }
  void make() {
    root = model.tree_root(model.stage(index));
    const auto read = [this](const FileRef& file) { return content(file); };
    ref = write_pack({.index = index,
                      .root = root,
                      .links = proto::encode_links(model.links),
                      .owners = proto::encode_owners(model.owners),
                      .read_base = read,
                      .read_target = read,
                      .maybe_in_base = {}},
                     tmp.path(), &stats);
    std::ifstream in(tmp / proto::to_hex(ref.sha256), std::ios::binary);
    pack.assign(std::istreambuf_iterator<char>(in), {});
    REQUIRE(pack.size() == ref.size);
    REQUIRE(proto::sha256(pack) == ref.sha256);
  }
  TreeView view() const { return base ? test::view_of(index, *base) : TreeView(); }
  proto::Decoded<PackReader> open() const { return PackReader::open(PackBytes(pack), &ref); }

  // Reads everything back and compares it with the pending layer; returns contents by hash.
  std::map<Hash, Bytes> read_back() {
    auto reader = open();
    REQUIRE(reader);
    const TreeView from = view();
    std::map<Bytes, Bytes> nodes;
    const auto tables = reader->read_nodes(
        from, proto::tree_hash(root), [&](const Bytes& path, const Hash& id, const Bytes& node) {
          CHECK(proto::node_id(node) == id);
          nodes[path] = node;
        });
    INFO((tables ? "" : to_string(tables.error())));
    REQUIRE(tables);
    CHECK(tables->links == proto::encode_links(model.links));
    CHECK(tables->owners == proto::encode_owners(model.owners));
    index.each_pending(Index::Order::Forward, [&](const PendingRow& p) {
      if (p.removed) return true;
      for (const auto& move : reader->index().moves)
        if (proto::within(move.to, p.row.path)) return true;
      INFO(p.row.path);
      CHECK(nodes.at(p.row.path) == p.row.node);
      nodes.erase(p.row.path);
      return true;
    });
    CHECK(nodes.empty());

    std::map<Hash, Bytes> contents;
    for (const auto& copy : reader->copies()) {
      const PackTarget& target = reader->targets().all()[copy.target];
      CHECK(reader->offers(target.file.hash));
      contents[target.file.hash] = content(copy.from).value();
    }
    for (std::size_t i = 0; i < reader->groups().size(); ++i)
      REQUIRE(reader->read_group(
          i, [&](const FileRef& file) { return content(file); },
          [&](const PackTarget& target, ByteView bytes) { contents[target.file.hash] = bytes; }));
    for (const auto& [hash, bytes] : contents) CHECK(proto::sha256(bytes) == hash);
    return contents;
  }
};

std::string_view why(const proto::Decoded<void>& d) {
  return d ? std::string_view("accepted") : to_string(d.error());
}

}  // namespace

TEST_CASE("a first version's pack holds all nodes and no contents", "[pack]") {
  Step step;
  step.model.file("a/b/c/f", "content");
  step.model.symlink("l", "a");
  step.model.links = {{{"a/b/c/f", "g"}}};
  step.model.file("g", "content");
  step.model.owners.users[0] = "root";
  step.make();
  CHECK(step.read_back().empty());
  CHECK(step.open()->index().base.is_zero());
  CHECK(step.open()->index().targets == 0);  // none is named, none is numbered
}

TEST_CASE("a changed file is a patch, its equals are no bytes", "[pack]") {
  Step step;
  const Bytes old = text(300'000, 1), large = noise(3'000'000, 2);
  step.model.file("dir/changed", old);
  step.model.file("dir/same", "unchanged");
  step.model.file("large", large);
  step.model.file("copied", text(200'000, 3));
  for (int i = 0; i < 50; ++i) step.model.file("other/" + std::to_string(i), std::to_string(i));
  step.commit();

  Bytes now = old;
  now.replace(1000, 5, "patch");
  step.model.file("dir/changed", now);
  step.model.file("dir/again", now);
  step.model.file("new/copy", text(200'000, 3));
  Bytes large_now = large;
  large_now[2'999'000] ^= 1;
  step.model.file("large", large_now);
  step.model.file("small", "small and new");
  step.model.file("empty", "");
  step.model.file("unknown", noise(100'000, 4));
  step.make();

  const auto contents = step.read_back();
  CHECK(contents.at(proto::sha256(now)) == now);
  CHECK(contents.at(proto::sha256(large_now)) == large_now);
  CHECK(contents.contains(proto::sha256("small and new")));
  CHECK_FALSE(contents.contains(proto::sha256(noise(100'000, 4))));
  CHECK(step.stats.targets == 5);
  CHECK(step.stats.copied == 1);
  CHECK(step.stats.left_out == 1);
  CHECK(step.pack.size() < 1500);
}

TEST_CASE("a moved directory is one line", "[pack]") {
  Step step;
  for (int i = 0; i < 300; ++i)
    step.model.file("old/sub/" + std::to_string(i), text(100, static_cast<unsigned>(i)));
  step.model.file("swap1/f", "one");
  step.model.file("swap2/f", "two");
  step.commit();
  step.model.move("old", "new");
  step.model.move("swap1", "t");
  step.model.move("swap2", "swap1");
  step.model.move("t", "swap2");
  step.make();
  CHECK(step.read_back().empty());
  CHECK(step.open()->index().moves ==
        std::vector<proto::PackMove>{{"new", "old"}, {"swap1", "swap2"}, {"swap2", "swap1"}});
  CHECK(step.stats.targets == 0);
  CHECK(step.pack.size() < 700);
}

TEST_CASE("packs of random steps lead where they should", "[pack]") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto pick = [&](std::size_t n) { return random() % n; };
  for (int round = 0; round < 12; ++round) {
    Step step;
    const auto path = [&] {
      Bytes p;
      for (std::size_t depth = pick(4); depth > 0; --depth)
        p = proto::join_path(p, "d" + std::to_string(pick(6)));
      return p;
    };
    const auto name = [&] { return "f" + std::to_string(pick(20)); };
    const auto edit = [&](std::size_t steps) {
      for (; steps > 0; --steps) {
        const Bytes dir = path(), at = proto::join_path(dir, name());
        switch (pick(8)) {
          case 0:
            step.model.remove(at);
            break;
          case 1:
            if (!dir.empty()) step.model.remove(dir);
            break;
          case 2:
            if (!dir.empty() && step.model.entries.contains(dir))
              step.model.move(dir, "moved" + std::to_string(pick(100)));
            break;
          case 3:
            step.model.symlink(at, "target" + std::to_string(pick(9)));
            break;
          case 4:
            step.model.directory(at + "/deep").mtime_s -= static_cast<long>(pick(1000));
            break;
          default: {
            Bytes content = text(pick(3000), static_cast<unsigned>(pick(50)));
            if (!content.empty() && pick(2)) content[pick(content.size())] ^= 1;
            step.model.remove(at);
            step.model.file(at, content).mtime_ns = static_cast<std::uint32_t>(pick(1000));
          }
        }
      }
    };
    edit(200);
    step.commit();
    edit(1 + pick(60));
    step.make();
    step.read_back();
  }
}

TEST_CASE("a wide tree goes through many frames", "[pack]") {
  Step step;
  for (int i = 0; i < 400; ++i)
    for (int j = 0; j < 20; ++j)
      step.model.file("dir" + std::to_string(i) + "/file" + std::to_string(j),
                      std::to_string(i) + "." + std::to_string(j));
  step.commit();
  for (auto& [path, entry] : step.model.entries) entry.mtime_s += 1000;
  step.make();
  step.read_back();
  const auto reader = step.open();
  CHECK(reader->index().node_frames.size() >= 3);
  for (const auto& frame : reader->index().node_frames) CHECK(frame.base.size() == 1);
  CHECK(step.pack.size() < 10'000);
}

TEST_CASE("a base that is not what it was is noticed", "[pack]") {
  Step step;
  step.model.file("f", text(50'000, 1));
  step.commit();
  Bytes now = text(50'000, 1);
  now[7] ^= 1;
  step.model.file("f", now);
  step.make();
  auto reader = step.open();
  REQUIRE(reader);
  const TreeView base = step.view();
  REQUIRE(reader->read_nodes(base, proto::tree_hash(step.root), [](auto&&...) {}));
  const auto read = [&](std::optional<Bytes> answer) {
    return why(reader->read_group(0, [&](const FileRef&) { return answer; }, [](auto&&...) {}));
  };
  CHECK(read(text(50'000, 1)) == "accepted");
  CHECK(read(text(50'000, 2)) == "missing_base");
  CHECK(read(text(49'999, 1)) == "missing_base");
  CHECK(read(std::nullopt) == "missing_base");

  // Another base tree than the pack was made for.
  CHECK(reader->read_nodes(TreeView(), proto::tree_hash(step.root), [](auto&&...) {}).error() ==
        Reject::MissingBase);
  CHECK(reader->read_nodes(base, proto::sha256("?"), [](auto&&...) {}).error() == Reject::BadHash);
}

namespace {

// A pack whose index, and frames, were changed by somebody who knows how.
struct Forger {
  Step step;
  PackIndex index;
  Bytes frames;

  Forger() {
    step.model.file("a/f", text(50'000, 1));
    step.model.file("b/g", "small");
    step.commit();
    step.model.file("a/f", text(50'000, 1) + "more");
    step.model.file("c/h", "new");
    step.make();
    index = step.open()->index();
    frames = step.pack.substr(step.ref.index_size);
  }
  Bytes bytes() const {
    const Bytes raw = proto::encode_pack_index(index);
    const Bytes stored = PatchEncoder().encode(raw, {}, 3);
    return proto::encode_pack_header({stored.size(), raw.size()}) + stored + frames;
  }
  // Nodes, then groups.
  std::string_view why() const {
    auto reader = PackReader::open(PackBytes(bytes()), nullptr);
    if (!reader) return to_string(reader.error());
    const auto nodes =
        reader->read_nodes(step.view(), proto::tree_hash(index.root), [](auto&&...) {});
    if (!nodes) return to_string(nodes.error());
    for (std::size_t i = 0; i < reader->groups().size(); ++i) {
      const auto read = reader->read_group(
          i, [this](const FileRef& file) { return step.content(file); }, [](auto&&...) {});
      if (!read) return to_string(read.error());
    }
    return "accepted";
  }
  std::uint64_t nodes_at() const { return index.tables_stored; }
  // Puts another node frame in the place of the only one.
  void put_nodes(const Bytes& records, std::uint64_t count) {
    const Bytes stored = PatchEncoder().encode(records, {}, 3);
    frames.replace(nodes_at(), index.node_frames[0].stored, stored);
    index.node_frames[0] = {stored.size(), records.size(), count, {}, {}};
  }
};

}  // namespace

TEST_CASE("a forged pack is refused by name", "[pack]") {
  Forger f;
  REQUIRE(f.why() == "accepted");
  REQUIRE(f.index.node_frames.size() == 1);
  REQUIRE(f.index.groups.size() == 1);
  SECTION("sizes") {
    f.frames += "x";
    CHECK(f.why() == "size_lie");
  }
  SECTION("a frame that says more than it holds") {
    f.index.node_frames[0].raw += 1;
    CHECK(f.why() == "size_lie");
  }
  SECTION("a bomb that says it is small") {
    const Bytes bomb = PatchEncoder().encode(Bytes(50'000'000, '\0'), {}, 1);
    f.frames.replace(f.nodes_at(), f.index.node_frames[0].stored, bomb);
    f.index.node_frames[0].stored = bomb.size();
    CHECK(f.why() == "size_lie");
  }
  SECTION("a group's bomb") {
    const Bytes bomb = PatchEncoder().encode(Bytes(50'000'000, '\0'), {}, 1);
    f.frames.resize(f.frames.size() - f.index.groups[0].stored);
    f.frames += bomb;
    f.index.groups[0].stored = bomb.size();
    CHECK(f.why() == "size_lie");
  }
  SECTION("not zstd") {
    f.frames[f.nodes_at()] ^= 1;
    CHECK(f.why() == "bad_compression");
  }
  SECTION("two frames in one") {
    f.frames.insert(f.nodes_at() + f.index.node_frames[0].stored,
                    PatchEncoder().encode("x", {}, 1));
    f.index.node_frames[0].stored += PatchEncoder().encode("x", {}, 1).size();
    CHECK(f.why() == "bad_compression");
  }
  SECTION("another content of the right size") {
    f.frames.resize(f.frames.size() - f.index.groups[0].stored);
    const Bytes other = PatchEncoder().encode(Bytes(50'004 + 3, 'x'), {}, 1);
    f.frames += other;
    f.index.groups[0].stored = other.size();
    CHECK(f.why() == "bad_hash");
  }
  SECTION("a base that is not there") {
    f.index.node_frames[0].elsewhere = {"no/such"};
    CHECK(f.why() == "missing_base");
  }
  SECTION("a range that is not there") {
    f.index.node_frames[0].base = {{"no/such", "no/such"}};
    CHECK(f.why() == "missing_base");
  }
  SECTION("a move from nowhere") {
    f.index.moves = {{"m", "nowhere"}};
    CHECK(f.why() == "missing_base");
  }
  SECTION("a move to where nothing leads") {
    f.index.moves = {{"x/m", "b"}};
    CHECK(f.why() == "bad_hash");
  }
  SECTION("a move over a new directory") {
    f.index.moves = {{"c", "b"}};
    CHECK(f.why() == "bad_hash");
  }
  SECTION("too few targets") {
    f.index.targets += 1;
    CHECK(f.why() == "bad_count");
  }
  SECTION("a copy of something else") {
    f.index.groups.clear();
    f.frames.resize(f.nodes_at() + f.index.node_frames[0].stored);
    f.index.copies = {{0, "b/g"}};
    CHECK(f.why() == "bad_hash");
  }
  SECTION("a copy of nothing") {
    f.index.groups.clear();
    f.frames.resize(f.nodes_at() + f.index.node_frames[0].stored);
    f.index.copies = {{0, "b"}};
    CHECK(f.why() == "missing_base");
  }
  SECTION("a base for what had none") {
    f.index.groups[0].targets[1].base = proto::GroupTarget::Base::SamePath;
    CHECK(f.why() == "missing_base");
  }
  SECTION("another tree") {
    f.index.root.entry.mode = 0700;
    CHECK(f.why() == "accepted");  // its tree hash is another one, which nobody has signed
    f.index.root.entry.content = proto::sha256("?");
    CHECK(f.why() == "bad_hash");
  }
  SECTION("other tables") {
    f.index.root.links = proto::sha256("?");
    CHECK(f.why() == "bad_hash");
  }
  SECTION("records that are not nodes") {
    f.put_nodes("garbage", 1);
    CHECK(f.why() != "accepted");
  }
  SECTION("a node below a file") {
    Bytes records;
    proto::NodeRecordWriter(records).add("a/f/x", proto::encode_node({}, proto::ChildIds::Omitted));
    f.put_nodes(records, 1);
    f.index.groups.clear();
    f.index.targets = 0;
    f.frames.resize(f.nodes_at() + f.index.node_frames[0].stored);
    CHECK(f.why() == "bad_hash");
  }
  SECTION("a directory nobody describes") {
    proto::Entry child;
    child.name = "child";
    child.type = proto::EntryType::Directory;
    Bytes records;
    proto::NodeRecordWriter(records).add(
        "a", proto::encode_node({{child}}, proto::ChildIds::Omitted));
    f.put_nodes(records, 1);
    f.index.groups.clear();
    f.index.targets = 0;
    f.frames.resize(f.nodes_at() + f.index.node_frames[0].stored);
    CHECK(f.why() == "bad_hash");
  }
  SECTION("a content with two sizes") {
    proto::Entry one, two;
    one.name = "1";
    two.name = "2";
    one.content = two.content = proto::sha256("x");
    one.size = 1;
    two.size = 2;
    Bytes records;
    proto::NodeRecordWriter(records).add(
        "a", proto::encode_node({{one, two}}, proto::ChildIds::Omitted));
    f.put_nodes(records, 1);
    CHECK(f.why() == "size_lie");
  }
  SECTION("fewer nodes than it says") {
    f.index.node_frames[0].nodes += 1;
    CHECK(f.why() == "bad_count");
  }
}

TEST_CASE("no bit of a pack can be flipped unnoticed", "[pack]") {
  const Forger f;
  const Bytes good = f.bytes();
  const TreeView base = f.step.view();
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    Bytes bad = good;
    bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    auto reader = PackReader::open(PackBytes(bad), nullptr);
    if (!reader) continue;
    if (!reader->read_nodes(base, proto::tree_hash(f.step.root), [](auto&&...) {})) continue;
    // What still passes can only be a worse pack of the same tree.
    for (std::size_t g = 0; g < reader->groups().size(); ++g)
      (void)reader->read_group(
          g, [&](const FileRef& file) { return f.step.content(file); },
          [&](const PackTarget& t, ByteView bytes) {
            REQUIRE(proto::sha256(bytes) == t.file.hash);
          });
  }
}

TEST_CASE("an index that its reference does not name", "[pack]") {
  const Forger f;
  const Bytes bytes = f.step.pack;
  proto::PackRef ref = f.step.ref;
  CHECK(PackReader::open(PackBytes(bytes), &ref));
  ref.index_sha256 = proto::sha256("?");
  CHECK(PackReader::open(PackBytes(bytes), &ref).error() == Reject::BadHash);
  ref = f.step.ref;
  ref.index_size += 1;
  CHECK(PackReader::open(PackBytes(bytes), &ref).error() == Reject::SizeLie);
  CHECK(PackReader::open(PackBytes(bytes + "x"), &f.step.ref).error() == Reject::SizeLie);
  CHECK(PackReader::open(PackBytes(Bytes("short")), nullptr).error() == Reject::Truncated);
}
