#include "services/tree/side_hash.hpp"

#include <random>

#include <catch2/catch.hpp>

using namespace mirrorbus;

TEST_CASE("a hash made aside is the hash", "[hash]") {
  std::mt19937 random(20261126);
  for (const std::size_t size : {0u, 1u, 1u << 20, 4u << 20, (4u << 20) + 1, 30'000'000u}) {
    proto::Bytes bytes(size, '\0');
    for (std::size_t i = 0; i < size; i += 1000) bytes[i] = static_cast<char>(random());
    tree::SideHash hash;
    for (std::size_t at = 0, step = 0; at < size; at += step) {
      step = 1 + random() % (1 << (random() % 21));
      hash.update(proto::ByteView(bytes).substr(at, step));
    }
    CHECK(hash.finish() == proto::sha256(bytes));
  }
}

TEST_CASE("a hash made aside may be given up", "[hash]") {
  tree::SideHash hash;
  const proto::Bytes bytes(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) hash.update(bytes);
}
