#include "proto/tree_sync.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <algorithm>
#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;
using mirrorbus::test::is_golden;

namespace {

const TreeId kTree = TreeId::from_bytes("0123456789abcdef");

SyncComplete complete() {
  SyncComplete c;
  c.tree = kTree;
  c.from = 6;
  c.to = 7;
  c.tree_hash = Hash::from_bytes(Bytes(32, 't'));
  c.bytes = 680'123;
  c.seconds = 1.25;
  c.source = "http://origin.example.org:9944";
  c.fidelity.full = false;
  c.fidelity.owner = "none";
  c.fidelity.owners_left_out = 3;
  c.fidelity.filter = Hash::from_bytes(Bytes(32, 'f'));
  add_missing(c, {"a/\xff", "gone"});
  return c;
}

std::string_view why(const std::function<void(Map&)>& change) {
  Value body = *unpack(encode_sync(complete()));
  change(std::get<Map>(body.data));
  const auto decoded = decode_sync_complete(body);
  return decoded ? std::string_view("accepted") : to_string(decoded.error());
}
Value& at(Map& map, std::string_view key) {
  return std::ranges::find(map, key, &Map::value_type::first)->second;
}

}  // namespace

TEST_CASE("sync bodies survive", "[tree_sync]") {
  const SyncStart start{kTree, 0, 7, "origin"};
  CHECK(is_golden("tree_sync/start.bin", encode_sync(start)));
  CHECK(decode_sync_start(*unpack(encode_sync(start))) == start);
  CHECK(is_golden("tree_sync/complete.bin", encode_sync(complete())));
  CHECK(decode_sync_complete(*unpack(encode_sync(complete()))) == complete());
  const SyncFail fail{kTree, 6, 7, 12, 0.5, "origin", "no space left"};
  CHECK(is_golden("tree_sync/fail.bin", encode_sync(fail)));
  CHECK(decode_sync_fail(*unpack(encode_sync(fail))) == fail);
}

TEST_CASE("a long list of missing items is cut, not lost", "[tree_sync]") {
  SyncComplete c = complete();
  const std::string reason = std::string(2000, 'x') + "\xc3\xa4";
  for (int i = 0; i < 2000; ++i) add_missing(c, {std::to_string(i), reason});
  CHECK(c.missing_total == 2001);
  CHECK(c.missing.size() == 40);
  CHECK(c.missing.back().reason.size() == 1024);
  CHECK(encode_sync(c).size() < kMaxEventSize - 2048);
  CHECK(decode_sync_complete(*unpack(encode_sync(c))) == c);
}

TEST_CASE("bad sync bodies are refused by name", "[tree_sync]") {
  CHECK(why([](Map&) {}) == "accepted");
  for (const char* key : {"tree", "from", "to", "tree_hash", "bytes", "seconds", "source",
                          "fidelity", "missing_total"}) {
    CHECK(why([&](Map& m) {
            std::erase_if(m, [&](const auto& e) { return e.first == key; });
          }) == "missing_key");
    CHECK(why([&](Map& m) { at(m, key) = Array{}; }) == "wrong_type");
  }
  CHECK(why([](Map& m) { at(m, "seconds") = -1; }) == "bad_field");
  CHECK(why([](Map& m) { at(m, "source") = std::string(1025, 's'); }) == "too_large");
  CHECK(why([](Map& m) { at(std::get<Map>(at(m, "fidelity").data), "owner") = "some"; }) ==
        "bad_field");
  CHECK(why([](Map& m) { at(m, "missing_total") = 0; }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "missing") = Array{Array{"a"}}; }) == "bad_count");
  CHECK(why([](Map& m) { at(m, "missing") = Array{Array{"/a", "r"}}; }) == "bad_name");
  CHECK_FALSE(decode_sync_start(Value(1)));
  CHECK_FALSE(decode_sync_fail(Value(Map{{"tree", Binary{"short"}}})));
}
