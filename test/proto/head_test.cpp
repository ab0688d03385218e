#include "proto/head.hpp"

#include "proto/limits.hpp"
#include "test/support/golden.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

Head head() {
  Head h;
  h.stream = hash_of('s');
  h.credential = hash_of('c');
  h.epoch = 1'763'640'000'000;
  h.beat = 42;
  h.time_ns = 1'763'640'042'000'000'000;
  h.next_ms = 1000;
  h.since = 100;
  h.last = 120;
  h.oldest = 1;
  h.batch = 9;
  h.header = hash_of('h');
  h.pairs = {{"org.example.dev.shell", 118}, {"org.example.dev.mirror.tree.kernel.update", 120}};
  return h;
}

std::string why(ByteView bytes) {
  const auto decoded = decode_head(bytes);
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}
std::string why(const std::function<void(Head&)>& change) {
  Head h = head();
  change(h);
  return why(encode_head(h));
}

}  // namespace

TEST_CASE("a head survives", "[head]") {
  const Bytes bytes = encode_head(head());
  CHECK(mirrorbus::test::is_golden("head/head.bin", bytes));
  const auto back = decode_head(bytes);
  REQUIRE(back);
  CHECK(*back == head());
  CHECK(why([](Head& h) {
          h.pairs = {{"", 120}};
        }) == "accepted");  // anything may have been published
  CHECK(why([](Head& h) { h.pairs.clear(), h.since = h.last, h.oldest = h.last + 1; }) ==
        "accepted");
}

TEST_CASE("bad heads are refused by name", "[head]") {
  const Bytes good = encode_head(head());
  const auto with = [&](std::size_t at, char value) {
    Bytes bytes = good;
    bytes[at] = value;
    return why(ByteView(bytes));
  };
  for (std::size_t size = 0; size < good.size(); size += 3)
    CHECK(why(ByteView(good).substr(0, size)) == "truncated");
  CHECK(why(ByteView(good + "x")) == "trailing_bytes");
  CHECK(with(0, 'x') == "bad_magic");
  CHECK(with(16, 2) == "bad_version");
  CHECK(with(17, 1) == "bad_flags");
  CHECK(with(18, 1) == "too_large");
  CHECK(why([](Head& h) { h.epoch = 0; }) == "bad_field");
  CHECK(why([](Head& h) { h.beat = 0; }) == "bad_field");
  CHECK(why([](Head& h) { h.since = 121; }) == "bad_field");
  CHECK(why([](Head& h) { h.oldest = 122; }) == "bad_field");
  CHECK(why([](Head& h) { h.last = UINT64_MAX; }) == "bad_field");
  CHECK(why([](Head& h) { h.pairs[0].last = 100; }) == "bad_field");
  CHECK(why([](Head& h) { h.pairs[0].last = 121; }) == "bad_field");
  CHECK(why([](Head& h) { h.pairs[0].prefix = "A"; }) == "bad_topic");
  CHECK(why([](Head& h) { h.pairs.assign(65, {"a", 120}); }) == "too_large");
}

TEST_CASE("control frames", "[head]") {
  const Bytes bytes = encode_control(ControlKind::Head, hash_of('s'), "payload");
  CHECK(bytes == Bytes("\x01H") + Bytes(32, 's') + "payload");
  const auto back = decode_control(bytes);
  REQUIRE(back);
  CHECK(back->kind == ControlKind::Head);
  CHECK(back->stream == hash_of('s'));
  CHECK(back->payload == "payload");
  const auto refused = [](ByteView text) {
    const auto decoded = decode_control(text);
    return decoded ? "accepted" : std::string(to_string(decoded.error()));
  };
  for (std::size_t size = 1; size < 34; ++size)
    CHECK(refused(bytes.substr(0, size)) == "truncated");
  CHECK(refused("") != "accepted");
  CHECK(refused("a" + bytes.substr(1)) == "bad_magic");
  CHECK(refused("\x01X" + bytes.substr(2)) == "bad_field");
  CHECK(refused("\x01" + Bytes(kMaxFrameSize, 'C')) == "too_large");
}
