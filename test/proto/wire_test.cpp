#include "proto/wire.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

TEST_CASE("integers are big-endian", "[wire]") {
  Bytes out;
  Writer(out).u8(1).u16(0x0203).u32(0x04050607).u64(0x08090a0b0c0d0e0f);
  CHECK(to_hex(out) == "0102030405060708090a0b0c0d0e0f");
  Reader r(out);
  CHECK(r.u8() == 1);
  CHECK(r.u16() == 0x0203);
  CHECK(r.u32() == 0x04050607);
  CHECK(r.u64() == 0x08090a0b0c0d0e0f);
  r.expect_end();
  CHECK_FALSE(r.failure());
}

TEST_CASE("varints have one spelling", "[wire]") {
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128},
                                    std::uint64_t{1} << 35, UINT64_MAX}) {
    Bytes out;
    Writer(out).varint(value);
    Reader r(out);
    CHECK(r.varint() == value);
    CHECK(r.at_end());
  }
  Reader padded(ByteView("\x80\x00", 2));
  padded.varint();
  CHECK(padded.failure() == Reject::NotCanonical);
  Reader big("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
  big.varint();
  CHECK(big.failure() == Reject::TooLarge);
}

TEST_CASE("zigzag keeps the extremes", "[wire]") {
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1}, INT64_MIN, INT64_MAX}) {
    Bytes out;
    Writer(out).zigzag(value);
    CHECK(Reader(out).zigzag() == value);
  }
}

TEST_CASE("a reader never passes the end and stays failed", "[wire]") {
  Reader r("ab");
  CHECK(r.u32() == 0);
  CHECK(r.failure() == Reject::Truncated);
  CHECK(r.u8() == 0);
  Reader more("abc");
  more.u8();
  more.expect_end();
  CHECK(more.failure() == Reject::TrailingBytes);
}
