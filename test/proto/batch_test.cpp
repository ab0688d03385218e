#include "proto/batch.hpp"

#include "proto/event.hpp"
#include "proto/merkle.hpp"
#include "proto/sha256.hpp"
#include "test/support/golden.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

struct Sample {
  std::vector<std::pair<Bytes, Bytes>> items;  // topic, event
  Bytes sealed;
  std::vector<Bytes> frames;
  Bytes row;
};

// Seals are for others to check: here they are 64 times 's'.
Sample sample(std::size_t count) {
  Sample s;
  std::vector<Hash> leaves;
  for (std::size_t i = 0; i < count; ++i) {
    Bytes event;
    append_event(event, 100 + i, 1'763'640'000'000'000'000, 3, {{1, 1}}, "\x80");
    s.items.emplace_back("org.example.dev.test." + std::string(1, static_cast<char>('a' + i % 26)),
                         event);
    leaves.push_back(event_leaf(s.items[i].first, event));
  }
  const MerkleTree tree(std::move(leaves));
  BatchHeader header;
  header.credential = hash_of('c');
  header.epoch = 1'763'640'000'000;
  header.number = 7;
  header.first_seq = 100;
  header.count = static_cast<std::uint16_t>(count);
  header.time_ns = 1'763'640'000'000'000'000;
  header.root = tree.root();
  header.previous = hash_of('p');
  append_header(s.sealed, header);
  s.sealed += Bytes(kSealSize, 's');
  s.row = s.sealed;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& [topic, event] = s.items[i];
    append_row_item(s.row, topic, event);
    Bytes path;
    tree.append_path(path, i);
    CHECK(path.size() == tree.path_nodes(i) * Hash::kSize);
    append_event_frame(s.frames.emplace_back(), {topic, s.sealed, path, event});
  }
  return s;
}

template <class T>
std::string why(const Decoded<T>& decoded) {
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}

Bytes changed(Bytes bytes, std::size_t at, char value) {
  bytes[at] = value;
  return bytes;
}

}  // namespace

TEST_CASE("a batch survives", "[batch]") {
  const Sample s = sample(5);
  CHECK(mirrorbus::test::is_golden("batch/row.bin", s.row));
  CHECK(mirrorbus::test::is_golden("batch/frame.bin", s.frames[3]));
  const auto row = decode_row(s.row);
  REQUIRE(row);
  const auto header = decode_header(row->header());
  REQUIRE(header);
  CHECK(header->count == 5);
  CHECK(header->epoch == 1'763'640'000'000);
  CHECK(header->number == 7);
  CHECK(header->last_seq() == 104);
  CHECK(header->previous == hash_of('p'));
  CHECK(row_root(*row) == header->root);
  CHECK(row->seal() == Bytes(kSealSize, 's'));
  const auto frame = decode_event_frame(s.frames[3]);
  REQUIRE(frame);
  CHECK(frame->topic == s.items[3].first);
  CHECK(frame->event == s.items[3].second);
  CHECK(frame->sealed_header == s.sealed);
  CHECK(header_hash(frame->header()) == sha256(s.sealed.substr(0, kHeaderSize)));
}

TEST_CASE("every leaf of every size of batch is proven, in any order", "[batch]") {
  std::mt19937 random(20261120);
  for (std::size_t count = 1; count <= 256; count += count < 20 ? 1 : 59) {
    INFO(count);
    const Sample s = sample(count);
    const auto header = decode_header(ByteView(s.sealed).substr(0, kHeaderSize));
    MerkleVerifier verifier(header->root, count);
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::shuffle(order, random);
    for (const std::size_t i : order) {
      const auto frame = decode_event_frame(s.frames[i]);
      REQUIRE(frame);
      const Hash leaf = event_leaf(frame->topic, frame->event);
      Hash wrong = leaf;
      wrong.octets[0] ^= 1;
      CHECK_FALSE(verifier.verify(wrong, i, frame->path));
      if (count > 1) CHECK_FALSE(verifier.verify(leaf, (i + 1) % count, frame->path));
      CHECK(verifier.verify(leaf, i, frame->path));
      CHECK(verifier.verify(leaf, i, frame->path));
    }
    CHECK_FALSE(verifier.verify(hash_of('x'), count, ""));
  }
}

TEST_CASE("a path that was cut or changed proves nothing", "[batch]") {
  const Sample s = sample(8);
  const auto header = decode_header(ByteView(s.sealed).substr(0, kHeaderSize));
  const auto frame = decode_event_frame(s.frames[5]);
  const Hash leaf = event_leaf(frame->topic, frame->event);
  for (std::size_t nodes = 0; nodes < 3; ++nodes)
    CHECK_FALSE(MerkleVerifier(header->root, 8).verify(leaf, 5, frame->path.substr(0, nodes * 32)));
  for (std::size_t at = 0; at < frame->path.size(); at += 31) {
    Bytes path(frame->path);
    path[at] = static_cast<char>(path[at] ^ 1);
    CHECK_FALSE(MerkleVerifier(header->root, 8).verify(leaf, 5, path));
  }
}

TEST_CASE("bad headers are refused by name", "[batch]") {
  const Bytes good = sample(5).sealed.substr(0, kHeaderSize);
  const auto header = [&](std::size_t at, char value) {
    return why(decode_header(changed(good, at, value)));
  };
  for (std::size_t size = 0; size < good.size(); size += 7)
    CHECK(why(decode_header(good.substr(0, size))) == "truncated");
  CHECK(why(decode_header(good + "x")) == "trailing_bytes");
  CHECK(header(3, 'x') == "bad_magic");
  CHECK(header(16, 2) == "bad_version");
  CHECK(header(17, 2) == "bad_version");
  CHECK(header(19, 0) == "bad_count");
  CHECK(header(18, 2) == "bad_count");
  CHECK(why(decode_header(Bytes(good).replace(52, 8, Bytes(8, '\0')))) == "bad_field");   // epoch 0
  CHECK(why(decode_header(Bytes(good).replace(60, 8, Bytes(8, '\0')))) == "bad_field");  // number 0
  CHECK(why(decode_header(Bytes(good).replace(68, 8, Bytes(8, '\0')))) == "bad_field");   // seq 0
  CHECK(why(decode_header(Bytes(good).replace(68, 8, Bytes(8, '\xff')))) ==
        "bad_field");  // overflow
}

TEST_CASE("bad frames are refused by name", "[batch]") {
  const Sample s = sample(5);
  const Bytes& good = s.frames[3];
  const std::size_t end = good.find('\0');
  const std::size_t nodes = end + 1 + kSealedHeaderSize;
  CHECK(why(decode_event_frame("")) == "bad_topic");
  CHECK(why(decode_event_frame(good.substr(0, end))) == "bad_topic");
  CHECK(why(decode_event_frame(Bytes(256, 'a') + good.substr(end))) == "bad_topic");
  for (std::size_t size = end + 1; size <= good.size() - s.items[3].second.size(); size += 11)
    CHECK(why(decode_event_frame(good.substr(0, size))) == "truncated");
  CHECK(why(decode_event_frame(good.substr(0, good.size() - s.items[3].second.size()))) ==
        "truncated");
  CHECK(why(decode_event_frame(changed(good, nodes, 9) + Bytes(300, 'x'))) == "too_large");
  CHECK(why(decode_event_frame(good + Bytes(64 * 1024, 'x'))) == "too_large");
  CHECK(why(decode_event_frame(Bytes(128 * 1024 + 1, 'a'))) == "too_large");
}

TEST_CASE("bad rows are refused by name", "[batch]") {
  const Sample s = sample(3);
  for (std::size_t size = 0; size < s.row.size(); size += 5)
    CHECK(why(decode_row(s.row.substr(0, size))) == "truncated");
  CHECK(why(decode_row(s.row + "x")) == "trailing_bytes");
  CHECK(why(decode_row(changed(s.row, 0, 'x'))) == "bad_magic");
  const std::size_t size_at = kSealedHeaderSize + 1 + s.items[0].first.size();
  CHECK(why(decode_row(changed(s.row, size_at, 1))) == "too_large");
  // Another event under the same header: it decodes, and the root tells.
  const Bytes lie = changed(s.row, s.row.size() - 1, '\x90');
  const auto row = decode_row(lie);
  REQUIRE(row);
  CHECK(row_root(*row) != decode_header(row->header())->root);
}
