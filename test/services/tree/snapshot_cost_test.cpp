#include "services/tree/snapshot_cost.hpp"

#include "proto/sha256.hpp"

#include <catch2/catch.hpp>

#include <map>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using proto::Entry;
using proto::Hash;

namespace {

struct Nodes : TargetNodes {
  std::map<Hash, Bytes> all;
  Bytes encoded(const Hash& id) const override { return all.at(id); }
  Hash add(std::vector<Entry> entries) {
    proto::Node node;
    node.entries = std::move(entries);
    const Bytes bytes = proto::encode_node(node);
    return all.emplace(proto::sha256(bytes), bytes).first->first;
  }
};

Entry file(const Bytes& name, std::uint64_t size) {
  Entry entry;
  entry.name = name;
  entry.type = proto::EntryType::File;
  entry.mode = 0644;
  entry.size = size;
  entry.content = proto::sha256(name);
  return entry;
}

}  // namespace

TEST_CASE("a file is shared with the version before if what this mirror reproduces is the same",
          "[mirror][snapshot]") {
  Nodes nodes;
  Entry other = file("b", 7000);
  const Hash from = nodes.add({file("a", 1000), other, file("goes", 300)});
  other.uid = 5;
  const Hash owner = nodes.add({file("a", 1000), other, file("new", 20)});
  other.uid = 0;
  other.xattrs = proto::sha256("attributes");
  const Hash attributes = nodes.add({file("a", 1000), other});
  other.xattrs.reset();
  other.mode = 0600;
  const Hash mode = nodes.add({file("a", 1000), other});
  const auto cost = [&](const Hash& to, OwnerMode owners, XattrMode xattrs) {
    MetadataPolicy::Settings policy;
    policy.owner = owners;
    policy.xattrs = xattrs;
    return snapshot_cost(nodes, from, to, 1, policy).content_bytes;
  };
  CHECK(cost(owner, OwnerMode::Numeric, XattrMode::All) == 7020);
  CHECK(cost(owner, OwnerMode::Name, XattrMode::All) == 7020);
  CHECK(cost(owner, OwnerMode::None, XattrMode::All) == 20);
  CHECK(cost(attributes, OwnerMode::None, XattrMode::All) == 7000);
  CHECK(cost(attributes, OwnerMode::None, XattrMode::None) == 0);
  CHECK(cost(mode, OwnerMode::None, XattrMode::None) == 7000);
  MetadataPolicy::Settings any;
  CHECK(snapshot_cost(nodes, {}, owner, 2, any).bytes() == 8020 + 2 * 4096);
}
