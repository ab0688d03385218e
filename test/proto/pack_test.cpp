#include "proto/pack.hpp"

#include "proto/value.hpp"
#include "test/support/golden.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;
using mirrorbus::test::is_golden;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

PackIndex index() {
  PackIndex i;
  i.base = hash_of('b');
  i.root.entry.type = EntryType::Directory;
  i.root.entry.mode = 0755;
  i.root.entry.content = hash_of('n');
  i.root.links = hash_of('l');
  i.root.owners = hash_of('o');
  i.links_size = 40;
  i.tables_stored = 30;
  i.moves = {{"a/new", "old"}, {"b", ""}};
  i.node_frames = {{100, 200, 2, {{"", "a/x"}, {"b", "b"}}, {"gone/dir", ""}},
                   {50, 60, 1, {{"c", "c"}}, {}},
                   {9, 12, 1, {}, {}}};
  i.targets = 10;
  i.copies = {{2, "x"}, {3, "old/\xff"}};
  i.groups = {{1000, {{0, GroupTarget::Base::SamePath, ""}, {9, GroupTarget::Base::None, ""}}},
              {500, {{4, GroupTarget::Base::Elsewhere, "old/y"}}}};
  i.large = {{{5, GroupTarget::Base::SamePath, ""}, {{70, 5'000'000, 0, 9'000'000}, {80, 1, 7, 0}}},
             {{7, GroupTarget::Base::Elsewhere, "old/z"}, {{90, 100, 4'000'000'000, 200}}}};
  return i;
}

std::string_view why(const PackIndex& i) {
  const auto decoded = decode_pack_index(encode_pack_index(i));
  return decoded ? std::string_view("accepted") : to_string(decoded.error());
}
std::string_view why(const std::function<void(PackIndex&)>& change) {
  PackIndex i = index();
  change(i);
  return why(i);
}

}  // namespace

TEST_CASE("a pack header survives", "[pack]") {
  const PackHeader header{1000, 5000};
  const Bytes bytes = encode_pack_header(header);
  CHECK(bytes.size() == PackHeader::kSize);
  CHECK(is_golden("pack/header.bin", bytes));
  CHECK(decode_pack_header(bytes) == header);
  const auto why = [](ByteView b) { return decode_pack_header(b).error(); };
  CHECK(why(ByteView(bytes).substr(1)) == Reject::BadMagic);
  CHECK(why(ByteView(bytes).substr(0, 31)) == Reject::Truncated);
  CHECK(why(bytes + "x") == Reject::TrailingBytes);
  CHECK(why(encode_pack_header({0, 1})) == Reject::BadField);
  CHECK(why(encode_pack_header({1, UINT64_MAX})) == Reject::TooLarge);
}

TEST_CASE("a pack index survives", "[pack]") {
  const Bytes bytes = encode_pack_index(index());
  CHECK(is_golden("pack/index.bin", bytes));
  const auto back = decode_pack_index(bytes);
  REQUIRE(back);
  CHECK(*back == index());
  CHECK(back->frames_size() == 30 + 100 + 50 + 9 + 1000 + 500 + 70 + 80 + 90);
  PackIndex extended = index();
  extended.extensions = pack(Map{{"k", 1}});
  CHECK(decode_pack_index(encode_pack_index(extended)) == extended);
}

TEST_CASE("bad pack indexes are refused by name", "[pack]") {
  CHECK(why([](PackIndex&) {}) == "accepted");
  CHECK(why([](PackIndex& i) { i.links_size = kMaxPackSpan + 1; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.tables_stored = 0; }) == "bad_field");
  CHECK(why([](PackIndex& i) { i.links_size = 0; }) == "bad_field");
  CHECK(why([](PackIndex& i) { i.root.entry.content = {}; }) == "bad_field");
  CHECK(why([](PackIndex& i) { std::swap(i.moves[0], i.moves[1]); }) == "bad_order");
  CHECK(why([](PackIndex& i) { i.moves[1].to = "a/new/deeper"; }) == "bad_order");
  CHECK(why([](PackIndex& i) { i.moves[1].to = ""; }) == "bad_name");
  CHECK(why([](PackIndex& i) { i.moves[1].from = "../b"; }) == "bad_name");
  CHECK(why([](PackIndex& i) { i.node_frames[0].stored = kMaxPackSpan + 1; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.node_frames[0].raw = kMaxPackSpan + 1; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.node_frames[0].nodes = 0; }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.node_frames[0].nodes = 201; }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.node_frames[0].elsewhere.push_back("z"); }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.node_frames[0].base[0] = {"b", "a"}; }) == "bad_order");
  CHECK(why([](PackIndex& i) { i.node_frames[1].base[0] = {"b", "b"}; }) == "bad_order");
  CHECK(why([](PackIndex& i) { i.node_frames[1].base[0] = {"/", "/"}; }) == "bad_name");
  CHECK(why([](PackIndex& i) { i.copies[0].from = ""; }) == "bad_name");
  CHECK(why([](PackIndex& i) { i.copies[0].target = 0; }) == "bad_index");  // twice
  CHECK(why([](PackIndex& i) { i.groups[1].targets[0].target = 9; }) == "bad_index");
  CHECK(why([](PackIndex& i) { i.groups[0].stored = 0; }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.groups[0].targets.clear(); }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.groups[0].stored = kMaxPackSpan + 1; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.groups[0].targets[0].base = GroupTarget::Base{3}; }) ==
        "bad_field");
  CHECK(why([](PackIndex& i) { i.large[1].target.target = 9; }) == "bad_index");  // twice
  CHECK(why([](PackIndex& i) { i.large[0].target.base = GroupTarget::Base::None; }) ==
        "bad_field");
  CHECK(why([](PackIndex& i) { i.large[0].pieces.clear(); }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.large[0].pieces[0].stored = 0; }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.large[0].pieces[0].size = 0; }) == "bad_count");
  CHECK(why([](PackIndex& i) { i.large[0].pieces[0].size = kMaxPackSpan + 1; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.large[0].pieces[0].base_size = kMaxPackSpan; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.large[0].pieces[0].base_offset = UINT64_MAX; }) == "too_large");
  CHECK(why([](PackIndex& i) { i.extensions = "\x80"; }) == "not_canonical");
  CHECK(why([](PackIndex& i) { i.extensions = "\x01"; }) == "wrong_type");

  const Bytes bytes = encode_pack_index(index());
  CHECK(decode_pack_index(bytes + "x").error() == Reject::TrailingBytes);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    REQUIRE_FALSE(decode_pack_index(ByteView(bytes).substr(0, size)));

  // The last target number is 9 of 10; with 9 of them it does not exist.
  Bytes fewer = bytes;
  fewer[fewer.find('\x0a', fewer.find("gone/dir"))] = '\x09';
  CHECK(decode_pack_index(fewer).error() == Reject::BadIndex);
  Bytes range = bytes;
  range[range.find("\x01\x03" "a/x")] = '\x02';
  CHECK(decode_pack_index(range).error() == Reject::BadFlags);
}

TEST_CASE("node records share what their paths have in common", "[pack]") {
  Bytes bytes;
  NodeRecordWriter writer(bytes);
  writer.add("", "root");
  writer.add("dir/one", "1");
  writer.add("dir/one/deep", "");
  writer.add("dir/two", "2");
  CHECK(is_golden("pack/records.bin", bytes));
  NodeRecordReader reader(bytes);
  Bytes path;
  ByteView node;
  std::vector<std::pair<Bytes, Bytes>> found;
  while (reader.next(path, node)) found.emplace_back(path, node);
  CHECK_FALSE(reader.failure());
  CHECK(found == std::vector<std::pair<Bytes, Bytes>>{
                     {"", "root"}, {"dir/one", "1"}, {"dir/one/deep", ""}, {"dir/two", "2"}});
}

TEST_CASE("bad node records are refused by name", "[pack]") {
  const auto why = [](ByteView bytes) {
    NodeRecordReader reader(bytes);
    Bytes path;
    ByteView node;
    while (reader.next(path, node)) {
    }
    return reader.failure() ? to_string(*reader.failure()) : "accepted";
  };
  CHECK(why({"\x00\x01" "a\x00", 4}) == "accepted");
  CHECK(why({"\x00\x01" "a\x05", 4}) == "truncated");
  CHECK(why({"\x01\x01" "a\x00", 4}) == "bad_field");
  CHECK(why({"\x00\x01/\x00", 4}) == "bad_name");
  CHECK(why({"\x00\x01" "b\x00\x00\x01" "a\x00", 8}) == "bad_order");
  CHECK(why({"\x00\x01" "b\x00\x01\x00\x00", 7}) == "bad_order");
  CHECK(why({"\x00\xff\xff\x03", 4}) == "too_large");
  CHECK(why({"\x00\x01" "a\xff\xff\xff\x7f", 7}) == "too_large");
}
