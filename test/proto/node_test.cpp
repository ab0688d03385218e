#include "proto/node.hpp"

#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

Entry entry(ByteView name, EntryType type) {
  Entry e;
  e.name = name;
  e.type = type;
  e.mode = type == EntryType::Symlink ? 0777 : 0644;
  e.mtime_s = 1'700'000'000;
  if (type == EntryType::File || type == EntryType::Directory) e.content = hash_of('c');
  if (type == EntryType::Symlink) e.target = "../there";
  return e;
}

// Every type, flag and extreme once.
Node rich() {
  Node node;
  auto& e = node.entries;
  e.push_back(entry("\x01 odd \xff\n", EntryType::File));
  e.back().size = 0;
  e.push_back(entry("block", EntryType::BlockDevice));
  e.back().major = 8;
  e.back().minor = UINT32_MAX;
  e.push_back(entry("char", EntryType::CharDevice));
  e.push_back(entry("dir", EntryType::Directory));
  e.back().mode = 07755;
  e.back().mtime_s = INT64_MIN;
  e.push_back(entry("fifo", EntryType::Fifo));
  e.back().mtime_s = INT64_MAX;
  e.push_back(entry("file", EntryType::File));
  e.back().size = INT64_MAX;
  e.back().flags = kEntryImmutable;
  e.back().xattrs = hash_of('x');
  e.back().mtime_s = -1;
  e.back().mtime_ns = 999'999'999;
  e.back().uid = UINT32_MAX - 1;
  e.back().gid = 65534;
  e.push_back(entry("link", EntryType::Symlink));
  e.push_back(entry(Bytes(255, 'n'), EntryType::File));
  e.push_back(entry("socket", EntryType::Socket));
  return node;
}

std::string_view why(ByteView bytes, ChildIds ids = ChildIds::Present) {
  const auto node = decode_node(bytes, ids);
  return node ? std::string_view("accepted") : to_string(node.error());
}

const ByteView kMagic("mbn\x01", 4);

// A one-file node from its fields, so that each can be wrong.
struct Raw {
  Bytes name = "f";
  std::uint8_t type = 1;
  std::uint64_t mode = 0644, uid = 0, gid = 0;
  std::uint64_t mtime_ns = 0;
  std::uint8_t flags = 0;
  Bytes rest = Bytes("\x05") + Bytes(32, 'c');

  Bytes entry() const {
    Bytes out;
    Writer(out).short_string(name).u8(type).varint(mode).varint(uid).varint(gid).zigzag(0)
        .varint(mtime_ns).u8(flags).raw(rest);
    return out;
  }
  Bytes node() const { return Bytes(kMagic) + entry(); }
};

}  // namespace

TEST_CASE("a node survives its bytes", "[node]") {
  const Node node = rich();
  const Bytes bytes = encode_node(node);
  const auto back = decode_node(bytes);
  REQUIRE(back);
  CHECK(*back == node);
  CHECK(encode_node(*back) == bytes);
  CHECK(mirrorbus::test::is_golden("node/rich.bin", bytes));
  CHECK(node.find("link")->target == "../there");
  CHECK(node.find("lin") == nullptr);
  CHECK(decode_node(encode_node({}))->entries.empty());
}

TEST_CASE("a node without child ids", "[node]") {
  Node node = rich();
  const Bytes bytes = encode_node(node, ChildIds::Omitted);
  CHECK(bytes.size() == encode_node(node).size() - Hash::kSize);
  CHECK(mirrorbus::test::is_golden("node/rich-without-ids.bin", bytes));
  const auto back = decode_node(bytes, ChildIds::Omitted);
  REQUIRE(back);
  node.entries[3].content = {};
  CHECK(*back == node);
}

TEST_CASE("any cut of a node is refused or shorter", "[node]") {
  const Bytes bytes = encode_node(rich());
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size)
    accepted += decode_node(ByteView(bytes).substr(0, size)).has_value();
  CHECK(accepted == rich().entries.size());  // at each boundary but the last, and the bare magic
}

TEST_CASE("bad nodes are refused by name", "[node]") {
  CHECK(why(Raw{}.node()) == "accepted");
  CHECK(why("") == "truncated");
  CHECK(why("mbl\x01") == "bad_magic");
  CHECK(why(Raw{.rest = "\x05"}.node()) == "truncated");
  CHECK(why(Raw{.name = ".."}.node()) == "bad_name");
  CHECK(why(Raw{.name = "a/b"}.node()) == "bad_name");
  CHECK(why(Raw{.name = ""}.node()) == "bad_name");
  CHECK(why(Raw{.name = ".mirrorbus"}.node()) == "bad_name");
  CHECK(why(Raw{}.node() + Raw{}.entry()) == "bad_order");
  CHECK(why(Raw{}.node() + Raw{.name = "e"}.entry()) == "bad_order");
  CHECK(why(Raw{.type = 0}.node()) == "bad_field");
  CHECK(why(Raw{.type = 8}.node()) == "bad_field");
  CHECK(why(Raw{.mode = 010000}.node()) == "bad_mode");
  CHECK(why(Raw{.type = 3, .mode = 0644, .rest = "\x01t"}.node()) == "bad_mode");
  CHECK(why(Raw{.uid = UINT32_MAX}.node()) == "bad_field");
  CHECK(why(Raw{.gid = std::uint64_t{1} << 40}.node()) == "bad_field");
  CHECK(why(Raw{.mtime_ns = 1'000'000'000}.node()) == "bad_field");
  CHECK(why(Raw{.flags = 4}.node()) == "bad_flags");
  CHECK(why(Raw{.flags = 2, .rest = Bytes(32, '\0') + Raw{}.rest}.node()) == "bad_field");
  CHECK(why(Raw{.rest = Bytes("\x05") + Bytes(32, '\0')}.node()) == "bad_field");
  CHECK(why(Raw{.rest = Bytes(9, '\xff') + "\x01" + Bytes(32, 'c')}.node()) == "too_large");
  CHECK(why(Raw{.rest = Bytes("\x85\x00", 2) + Bytes(32, 'c')}.node()) == "not_canonical");
  CHECK(why(Raw{.type = 3, .mode = 0777, .rest = Bytes(1, '\0')}.node()) == "bad_target");
  CHECK(why(Raw{.type = 3, .mode = 0777, .rest = Bytes("\x01\0", 2)}.node()) == "bad_target");
  CHECK(why(Raw{.type = 3, .mode = 0777, .rest = "\x80\x20" + Bytes(4096, 't')}.node()) ==
        "bad_target");
  CHECK(why(Raw{.type = 4, .rest = Bytes("\xff\xff\xff\xff\x1f\x00", 6)}.node()) == "bad_field");
}

TEST_CASE("a root entry has no name and is a directory", "[node]") {
  Entry root = entry("", EntryType::Directory);
  root.mtime_s = -5;
  Bytes bytes;
  Writer w(bytes);
  encode_root_entry(w, root);
  Reader r(bytes);
  CHECK(decode_root_entry(r) == root);
  CHECK(r.at_end());

  const Bytes with_name = Raw{}.entry();
  Reader named(with_name);
  decode_root_entry(named);
  CHECK(named.failure() == Reject::BadName);
  const Bytes file = Raw{.name = ""}.entry();
  Reader not_directory(file);
  decode_root_entry(not_directory);
  CHECK(not_directory.failure() == Reject::BadField);
}
