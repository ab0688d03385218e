// A directory node, with and without the ids of its children, and by which entries are found.
#include "proto/node.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  for (const auto ids : {proto::ChildIds::Present, proto::ChildIds::Omitted}) {
    const auto decode = [ids](proto::ByteView from) { return proto::decode_node(from, ids); };
    const auto encode = [ids](const proto::Node& node) { return proto::encode_node(node, ids); };
    fuzz::canonical(bytes, decode, encode);
    const auto node = decode(bytes);
    if (!node) continue;
    for (const proto::Entry& entry : node->entries) {
      fuzz::require(proto::valid_entry_name(entry.name), "an entry has a name that may be used");
      fuzz::require(node->find(entry.name) == &entry, "an entry is found by its name");
    }
  }
  return 0;
}
