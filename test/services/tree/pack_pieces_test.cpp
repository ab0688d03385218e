#include "services/tree/pack_pieces.hpp"

#include "proto/sha256.hpp"
#include "services/tree/patch.hpp"
#include "services/tree/spool.hpp"
#include "test/services/tree/mirror_fixture.hpp"

#include <random>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

using namespace mirrorbus;
using namespace mirrorbus::tree;
using proto::Bytes;
using proto::ByteView;

namespace {

Bytes noise(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  Bytes out(size, '\0');
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(out.data() + i, &word, 8);
  }
  return out;
}

base::Fd in_memory(ByteView bytes) {
  base::Fd fd(::memfd_create("content", MFD_CLOEXEC));
  write_all_at(fd.get(), bytes, 0, "a content");
  return fd;
}

const PieceSizes kSmall{.whole = 1 << 20, .piece = 200'000, .margin = 50'000, .landmark_bits = 10};

std::optional<std::vector<MadePiece>> made_of(ByteView base, ByteView target,
                                              const PieceSizes& sizes = kSmall) {
  return make_pieces(in_memory(target).get(), {"t", proto::sha256(target), target.size()},
                     in_memory(base).get(), {"b", proto::sha256(base), base.size()}, sizes, 2);
}

std::size_t stored_bytes(const std::vector<MadePiece>& pieces) {
  std::size_t sum = 0;
  for (const MadePiece& piece : pieces) sum += piece.stored.size();
  return sum;
}

Bytes put_together(ByteView base, const std::vector<MadePiece>& pieces) {
  PatchDecoder decoder;
  Bytes out;
  for (const MadePiece& piece : pieces) {
    const auto raw =
        decoder.decode(piece.stored, base.substr(piece.base_offset, piece.base_size), piece.size);
    REQUIRE(raw);
    out += *raw;
  }
  return out;
}

}  // namespace

TEST_CASE("a large file edited in place is small pieces", "[pieces]") {
  const Bytes base = noise(3'000'000, 1);
  Bytes target = base;
  for (std::size_t at = 1000; at < target.size(); at += 100'000)
    target.replace(at, 20, noise(24, static_cast<unsigned>(at)).substr(0, 20));
  const auto pieces = made_of(base, target);
  REQUIRE(pieces);
  CHECK(pieces->size() == 15);
  CHECK(put_together(base, *pieces) == target);
  CHECK(stored_bytes(*pieces) < 5000);
}

TEST_CASE("what has moved far is found where it was", "[pieces]") {
  const Bytes base = noise(3'000'000, 2);
  // Much more than the margin goes at the front, and something is put in the middle.
  const Bytes target = base.substr(700'000, 1'000'000) + noise(400'000, 3) + base.substr(1'700'000);
  const auto pieces = made_of(base, target);
  REQUIRE(pieces);
  CHECK(put_together(base, *pieces) == target);
  CHECK(stored_bytes(*pieces) < 500'000);
}

TEST_CASE("where the same stands in many places, a piece is compared with where it was",
          "[pieces]") {
  Bytes base;
  const Bytes block = noise(150'000, 8);
  for (int i = 0; i < 20; ++i) base += block;
  for (std::size_t at = 7000; at + 300 < base.size(); at += 50'000)
    base.replace(at, 300, noise(304, static_cast<unsigned>(at)).substr(0, 300));
  Bytes target = base;
  for (std::size_t at = 9000; at < target.size(); at += 600'000)
    target.replace(at, 300, noise(304, static_cast<unsigned>(at)).substr(0, 300));
  const auto pieces = made_of(base, target);
  REQUIRE(pieces);
  CHECK(put_together(base, *pieces) == target);
  CHECK(stored_bytes(*pieces) < 4000);
}

TEST_CASE("pieces of another file, or of one that is not what it should be, are not made",
          "[pieces]") {
  const Bytes base = noise(2'000'000, 4), other = noise(2'000'000, 5);
  CHECK_FALSE(made_of(base, other));
  const auto wrong =
      make_pieces(in_memory(base).get(), {"t", proto::sha256(other), base.size()},
                  in_memory(base).get(), {"b", proto::sha256(base), base.size()}, kSmall, 2);
  CHECK_FALSE(wrong);
  // Shorter than said.
  CHECK_FALSE(make_pieces(in_memory("short").get(), {"t", proto::sha256(base), base.size()},
                          in_memory(base).get(), {"b", proto::sha256(base), base.size()}, kSmall,
                          2));
  const Bytes zeros(3'000'000, '\0');
  const auto pieces = made_of(zeros, zeros + Bytes("end"));
  REQUIRE(pieces);
  CHECK(put_together(zeros, *pieces) == zeros + Bytes("end"));
}

TEST_CASE("a large file follows by its pieces, also over several versions", "[pieces][mirror]") {
  test::TempDir tmp;
  test::Mirror m{tmp.path()};
  m.make_packs();
  std::filesystem::create_directory(m.a());
  Bytes content = noise(300'000, 6);
  m.file("large", content);
  REQUIRE(m.publish_and_sync().state == SyncResult::State::Committed);
  const std::uint64_t before = m.source.object_bytes;
  for (int versions = 1; versions <= 3; ++versions) {
    for (int i = 0; i < versions; ++i) {
      content.insert(static_cast<std::size_t>(40'000 * (i + 1)), "edited " + std::to_string(i));
      m.file("large", content);
      m.publish(true);
    }
    const auto result = m.sync();
    INFO(test::describe(result));
    REQUIRE(result.state == SyncResult::State::Committed);
    CHECK(m.differences() == "");
  }
  // Nothing but packs was asked for.
  CHECK(m.source.object_bytes == before);
}

TEST_CASE("a base that somebody has changed is noticed, and the file fetched", "[pieces][mirror]") {
  test::TempDir tmp;
  test::Mirror m{tmp.path()};
  m.make_packs();
  std::filesystem::create_directory(m.a());
  Bytes content = noise(300'000, 7);
  m.file("large", content);
  REQUIRE(m.publish_and_sync().state == SyncResult::State::Committed);
  const std::uint64_t before = m.source.object_bytes;
  struct stat st;
  REQUIRE(::stat((m.b() + "/large").c_str(), &st) == 0);
  {
    std::fstream live(m.b() + "/large", std::ios::in | std::ios::out | std::ios::binary);
    live.seekp(150'000);
    live << "not what it was";
  }
  const timespec times[2] = {st.st_atim, st.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, (m.b() + "/large").c_str(), times, 0) == 0);
  content.insert(1000, "edited");
  m.file("large", content);
  m.publish(true);
  const auto result = m.sync();
  INFO(test::describe(result));
  REQUIRE(result.state == SyncResult::State::Committed);
  CHECK(m.differences() == "");
  CHECK(m.source.object_bytes == before + content.size());
  CHECK(m.source.complaints.empty());
}
