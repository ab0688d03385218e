#include "proto/tree_version.hpp"

#include "proto/limits.hpp"
#include "proto/value.hpp"
#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;
using mirrorbus::test::is_golden;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

template <class T>
std::string_view why(const Decoded<T>& decoded) {
  return decoded ? std::string_view("accepted") : to_string(decoded.error());
}

Bytes links_of(std::initializer_list<std::vector<Bytes>> groups) {
  Bytes out("mbl\x01");
  Writer w(out);
  for (const auto& group : groups) {
    w.varint(group.size());
    for (const auto& path : group) w.varint(path.size()).raw(path);
  }
  return out;
}

VersionRecord record() {
  VersionRecord r;
  r.tree = TreeId::from_bytes("0123456789abcdef");
  r.number = 7;
  r.parent = hash_of('p');
  r.tree_hash = hash_of('t');
  r.counts = {83'730, 78'000, 5'000, 70, 1'300'000'000};
  r.time_ns = 1'790'000'000'123'456'789;
  return r;
}

TreeRoot root() {
  TreeRoot r;
  r.entry.type = EntryType::Directory;
  r.entry.mode = 0755;
  r.entry.mtime_s = 1'700'000'000;
  r.entry.mtime_ns = 5;
  r.entry.content = hash_of('n');
  r.links = hash_of('l');
  r.owners = hash_of('o');
  return r;
}

}  // namespace

TEST_CASE("a links table survives its bytes", "[tree_version]") {
  const LinksTable links{{{"a/x", "b", "c"}, {"a-1", "z/\xff"}}};
  const Bytes bytes = encode_links(links);
  CHECK(is_golden("tree_version/links.bin", bytes));
  const auto back = decode_links(bytes);
  REQUIRE(back);
  CHECK(*back == links);
  CHECK(encode_links({}) == "mbl\x01");
  CHECK(decode_links("mbl\x01")->groups.empty());
}

TEST_CASE("bad links tables are refused by name", "[tree_version]") {
  CHECK(why(decode_links(links_of({{"a", "b"}}))) == "accepted");
  CHECK(why(decode_links("mb")) == "truncated");
  CHECK(why(decode_links("mbn\x01")) == "bad_magic");
  CHECK(why(decode_links(links_of({{"a"}}))) == "bad_count");
  CHECK(why(decode_links(links_of({{"b", "a"}}))) == "bad_order");
  CHECK(why(decode_links(links_of({{"a", "a"}}))) == "bad_order");
  CHECK(why(decode_links(links_of({{"c", "d"}, {"a", "b"}}))) == "bad_order");
  CHECK(why(decode_links(links_of({{"a", "d"}, {"b", "d"}}))) == "bad_order");
  CHECK(why(decode_links(links_of({{"a", "../b"}}))) == "bad_name");
  CHECK(why(decode_links(links_of({{"a", Bytes(5000, 'b')}}))) == "too_large");
  // A count that promises 2^62 paths costs nothing.
  CHECK(why(decode_links(Bytes("mbl\x01") + Bytes(8, '\xff') + "\x3f\x01" "a")) == "truncated");
}

TEST_CASE("an owners table survives its bytes", "[tree_version]") {
  const OwnersTable owners{{{0, "root"}, {1000, "j\xc3\xb6rg"}, {UINT32_MAX - 1, "last"}},
                           {{0, "root"}, {4, "adm"}}};
  const Bytes bytes = encode_owners(owners);
  CHECK(is_golden("tree_version/owners.bin", bytes));
  const auto back = decode_owners(bytes);
  REQUIRE(back);
  CHECK(*back == owners);
  CHECK(decode_owners(encode_owners({})) == OwnersTable{});
}

TEST_CASE("bad owners tables are refused by name", "[tree_version]") {
  const Bytes magic("mbo\x01");
  const auto of = [&](ByteView rest) { return decode_owners(magic + Bytes(rest)); };
  CHECK(why(of({"\x01\x05\x01r\x00", 5})) == "accepted");
  CHECK(why(of("")) == "truncated");
  CHECK(why(decode_owners("nope")) == "bad_magic");
  CHECK(why(of({"\x00\x00\x00", 3})) == "trailing_bytes");
  CHECK(why(of({"\x02\x05\x01r\x05\x01s\x00", 8})) == "bad_order");
  CHECK(why(of({"\x01\x05\x00\x00", 4})) == "bad_name");
  CHECK(why(of({"\x01\x05\x01:\x00", 5})) == "bad_name");
  CHECK(why(of({"\x01\xff\xff\xff\xff\x0f\x01r\x00", 9})) == "bad_field");
  CHECK(why(of("\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x01r")) == "truncated");
}

TEST_CASE("the tree hash covers root, links and owners", "[tree_version]") {
  const Bytes bytes = encode_tree_root(root());
  CHECK(is_golden("tree_version/root.bin", bytes));
  const auto back = decode_tree_root(bytes);
  REQUIRE(back);
  CHECK(*back == root());
  CHECK(tree_hash(root()) == sha256(bytes));
  for (const auto change : {+[](TreeRoot& r) { r.entry.mode = 0700; },
                            +[](TreeRoot& r) { r.entry.mtime_ns = 6; },
                            +[](TreeRoot& r) { r.entry.content = hash_of('m'); },
                            +[](TreeRoot& r) { r.links = hash_of('m'); },
                            +[](TreeRoot& r) { r.owners = hash_of('m'); }}) {
    TreeRoot other = root();
    change(other);
    CHECK(tree_hash(other) != tree_hash(root()));
  }
  CHECK(why(decode_tree_root(bytes + "x")) == "trailing_bytes");
  CHECK(why(decode_tree_root(ByteView(bytes).substr(0, bytes.size() - 1))) == "truncated");
  CHECK(why(decode_tree_root("mirrorbus vers 1")) == "bad_magic");
}

TEST_CASE("a version record survives its bytes", "[tree_version]") {
  const Bytes bytes = encode_version(record());
  CHECK(is_golden("tree_version/record.bin", bytes));
  const auto back = decode_version(bytes);
  REQUIRE(back);
  CHECK(*back == record());
  VersionRecord extended = record();
  extended.extensions = pack(Map{{"k", 1}});
  CHECK(decode_version(encode_version(extended)) == extended);
  CHECK(version_hash(extended) != version_hash(record()));
}

TEST_CASE("bad version records are refused by name", "[tree_version]") {
  const auto with = [](auto change) {
    VersionRecord r = record();
    change(r);
    return why(decode_version(encode_version(r)));
  };
  CHECK(with([](VersionRecord&) {}) == "accepted");
  CHECK(with([](VersionRecord& r) { r.number = 0; }) == "bad_field");
  CHECK(with([](VersionRecord& r) { r.tree = {}; }) == "bad_field");
  CHECK(with([](VersionRecord& r) { r.tree_hash = {}; }) == "bad_field");
  CHECK(with([](VersionRecord& r) { r.extensions = "\x80"; }) == "not_canonical");
  CHECK(with([](VersionRecord& r) { r.extensions = "\x01"; }) == "wrong_type");
  CHECK(with([](VersionRecord& r) { r.extensions = "\xc1"; }) == "bad_msgpack");
  const Bytes bytes = encode_version(record());
  CHECK(why(decode_version(bytes + "x")) == "trailing_bytes");
  CHECK(why(decode_version("mirrorbus tree 1")) == "bad_magic");
  Bytes large = bytes;
  large.back() = '\xff';
  CHECK(why(decode_version(large + "\x7f")) == "too_large");
  for (std::size_t size = 0; size < bytes.size(); ++size)
    REQUIRE(why(decode_version(ByteView(bytes).substr(0, size))) == "truncated");
}
