#include "proto/tree_update.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <algorithm>
#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

TreeUpdate update() {
  TreeUpdate u;
  u.record.tree = TreeId::from_bytes("0123456789abcdef");
  u.record.number = 7;
  u.record.parent = hash_of('p');
  u.record.tree_hash = hash_of('t');
  u.record.counts = {5, 3, 1, 1, 1000};
  u.record.time_ns = 1'790'000'000'123'456'789;
  u.inline_pack = "tiny pack";
  u.pack = PackRef{sha256(u.inline_pack), u.inline_pack.size(), 4, hash_of('i')};
  for (Change c :
       {Change{ChangeOp::Change, "dists/InRelease", ""}, Change{ChangeOp::Add, "\xff", ""},
        Change{ChangeOp::Meta, "", ""}, Change{ChangeOp::Delete, "gone", ""},
        Change{ChangeOp::Move, "from", "to/there"}})
    add_change(u, std::move(c));
  return u;
}

// The body with one thing changed.
std::string_view why(const std::function<void(Map&)>& change) {
  Value body = to_value(update());
  change(std::get<Map>(body.data));
  const auto decoded = update_of(body);
  return decoded ? std::string_view("accepted") : to_string(decoded.error());
}

Value& at(Map& map, std::string_view key) {
  return std::ranges::find(map, key, &Map::value_type::first)->second;
}
void drop(Map& map, std::string_view key) {
  std::erase_if(map, [&](const auto& e) { return e.first == key; });
}

}  // namespace

TEST_CASE("an update survives its body", "[tree_update]") {
  const Bytes body = encode_update(update());
  CHECK(mirrorbus::test::is_golden("tree_update/update.bin", body));
  CHECK(mirrorbus::test::is_golden("tree_update/update.json", to_json(*unpack(body)) + "\n"));
  const auto back = decode_update(body);
  REQUIRE(back);
  CHECK(*back == update());

  TreeUpdate plain = update();
  plain.pack.reset();
  plain.inline_pack.clear();
  plain.record.extensions = pack(Map{{"k", 1}});
  plain.incomplete = true;
  CHECK(decode_update(encode_update(plain)) == plain);
}

TEST_CASE("an update always fits an event", "[tree_update]") {
  TreeUpdate u = update();
  u.changes.clear();
  u.changes_total = 0;
  u.inline_pack.assign(kMaxInlinePack, 'p');
  u.pack = PackRef{sha256(u.inline_pack), u.inline_pack.size(), 4, hash_of('i')};
  SECTION("many short paths") {
    for (int i = 0; i < 300; ++i) add_change(u, {ChangeOp::Add, std::to_string(i), ""});
    CHECK(u.changes.size() == 256);
  }
  SECTION("few long ones") {
    for (int i = 0; i < 300; ++i) add_change(u, {ChangeOp::Move, Bytes(255, 'a'), Bytes(255, 'b')});
    CHECK(u.changes.size() == 46);
  }
  CHECK(u.changes_total == 300);
  CHECK(u.changes_more);
  CHECK(encode_update(u).size() < kMaxEventSize - 2048);
  CHECK(decode_update(encode_update(u)) == u);
}

TEST_CASE("bad updates are refused by name", "[tree_update]") {
  CHECK(why([](Map&) {}) == "accepted");
  CHECK(why([](Map& m) { m.emplace_back("later", 1); }) == "accepted");
  for (const char* key : {"tree", "number", "parent", "tree_hash", "time", "counts", "changes",
                          "changes_total"})
    CHECK(why([&](Map& m) { drop(m, key); }) == "missing_key");
  for (const char* key : {"tree", "number", "parent", "tree_hash", "time", "counts", "changes",
                          "changes_total", "changes_more", "pack"})
    CHECK(why([&](Map& m) { at(m, key) = "text"; }) == "wrong_type");
  CHECK(why([](Map& m) { at(m, "number") = 0; }) == "bad_field");
  CHECK(why([](Map& m) { at(m, "tree") = Binary{Bytes(16, '\0')}; }) == "bad_field");
  CHECK(why([](Map& m) { m.emplace_back("extensions", Binary{Bytes(5000, 'x')}); }) == "too_large");
  CHECK(why([](Map& m) { m.emplace_back("extensions", Binary{"\x01"}); }) == "wrong_type");
  CHECK(why([](Map& m) { at(m, "changes_total") = 4; }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "changes") = Array(257, Array{"add", "a"}); }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "changes") = Array{Array{}}; }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "changes") = Array{Array{"move", "a"}}; }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "changes") = Array{Array{"burn", "a"}}; }) == "bad_field");
  CHECK(why([](Map& m) { at(m, "changes") = Array{Array{"add", "../a"}}; }) == "bad_name");
  CHECK(why([](Map& m) { at(m, "changes") = Array{Array{"add", 1}}; }) == "wrong_type");

  const auto pack = [](std::string_view key, Value value) {
    return why([&](Map& m) { at(std::get<Map>(at(m, "pack").data), key) = std::move(value); });
  };
  CHECK(pack("index_size", 1000) == "bad_field");
  CHECK(pack("sha256", hash_of('x')) == "bad_hash");
  CHECK(pack("inline", Binary{"tiny"}) == "size_lie");
  CHECK(pack("inline", Binary{Bytes(kMaxInlinePack + 1, 'p')}) == "too_large");
  CHECK(pack("inline", "text") == "wrong_type");
  CHECK(to_string(decode_update("\xc1").error()) == "bad_msgpack");
  CHECK(to_string(decode_update("\x01").error()) == "wrong_type");
}
