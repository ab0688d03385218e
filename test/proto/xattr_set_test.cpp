#include "proto/xattr_set.hpp"

#include "proto/pack.hpp"
#include "proto/value.hpp"
#include "proto/wire.hpp"
#include "test/support/golden.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;
using mirrorbus::test::is_golden;

namespace {

std::string_view why(ByteView bytes) {
  const auto decoded = decode_xattr_set(bytes);
  return decoded ? std::string_view("accepted") : to_string(decoded.error());
}

// As an encoder would not write it.
Bytes raw(std::initializer_list<std::pair<Bytes, Bytes>> attributes) {
  Bytes out("mbx\x01");
  Writer w(out);
  for (const auto& [name, value] : attributes)
    w.short_string(name).varint(value.size()).raw(value);
  return out;
}

}  // namespace

TEST_CASE("a set of extended attributes survives its bytes", "[xattr_set]") {
  const XattrSet set{{"security.capability", Bytes("\1\0\0\2", 4)},
                     {"system.posix_acl_access", Bytes("\2\0\0\0\1\0\6\0", 8)},
                     {"user.\xff", ""},
                     {"user.comment", Bytes(300, 'c')}};
  XattrSet sorted = set;
  std::swap(sorted[2], sorted[3]);
  const Bytes bytes = encode_xattr_set(sorted);
  CHECK(is_golden("xattr_set/set.bin", bytes));
  const auto back = decode_xattr_set(bytes);
  REQUIRE(back);
  CHECK(*back == sorted);
  CHECK(to_hex(xattr_set_id(bytes)) == to_hex(sha256(bytes)));
}

TEST_CASE("bad sets of extended attributes are refused by name", "[xattr_set]") {
  CHECK(why(raw({{"user.a", "1"}, {"user.b", ""}})) == "accepted");
  CHECK(why(raw({{Bytes(255, 'n'), Bytes(65536, 'v')}})) == "accepted");
  CHECK(why("mb") == "truncated");
  CHECK(why("mbn\x01") == "bad_magic");
  CHECK(why("mbx\x01") == "bad_count");
  CHECK(why(raw({{"", "1"}})) == "bad_name");
  CHECK(why(raw({{Bytes("a\0b", 3), "1"}})) == "bad_name");
  CHECK(why(raw({{"user.b", "1"}, {"user.a", "1"}})) == "bad_order");
  CHECK(why(raw({{"user.a", "1"}, {"user.a", "1"}})) == "bad_order");
  CHECK(why(raw({{"user.a", Bytes(65537, 'v')}})) == "too_large");
  CHECK(why(raw({{"user.a", "123"}}).substr(0, 14)) == "truncated");
  CHECK(why(Bytes("mbx\x01\x01" "a\x80\x00", 8)) == "not_canonical");
  Bytes large = raw({});
  for (char c = 'a'; c < 'a' + 17; ++c) large += raw({{Bytes(1, c), Bytes(65536, 'v')}}).substr(4);
  CHECK(why(large) == "too_large");
}

TEST_CASE("a pack's index carries sets of extended attributes", "[xattr_set]") {
  const std::vector<Bytes> sets{raw({{"user.a", "1"}}), raw({{"user.b", Bytes(9000, 'b')}})};
  PackIndex index;
  CHECK(xattr_sets_of(index)->empty());
  index.extensions = xattr_extension(sets);
  const auto back = xattr_sets_of(index);
  REQUIRE(back);
  CHECK(*back == sets);
  CHECK(xattr_extension({}).empty());

  const auto refused = [&](const Value& value) {
    index.extensions = pack(Map{{"xattrs", value}});
    const auto read = xattr_sets_of(index);
    return read ? std::string_view("accepted") : to_string(read.error());
  };
  CHECK(refused(Array{}) == "accepted");
  CHECK(refused(7) == "wrong_type");
  CHECK(refused(Array{7}) == "wrong_type");
  CHECK(refused(Array{Binary{"mbx\x01"}}) == "bad_count");
}
