#include "services/tree/pack_pieces.hpp"

#include "proto/sha256.hpp"
#include "services/tree/patch.hpp"
#include "services/tree/spool.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <future>
#include <map>
#include <memory>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;

namespace {

constexpr std::uint64_t kChunk = 1 << 20;
constexpr int kLevel = 3;  // long-distance matching does the work
// Beyond this a file is better fetched whole, from any holder.
constexpr std::uint64_t kMaxStored = 256 << 20;
constexpr std::size_t kMaxLandmarks = 1 << 20;
constexpr std::int64_t kNearby = 1 << 20;  // what counts as having moved by the same
constexpr std::uint64_t kApart = 1 << 16;  // what counts as another place

// A random number for each byte (splitmix64), the same on every machine.
constexpr std::array<std::uint64_t, 256> kGear = [] {
  std::array<std::uint64_t, 256> gear{};
  std::uint64_t state = 0;
  for (std::uint64_t& number : gear) {
    state += 0x9e3779b97f4a7c15;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    number = z ^ (z >> 31);
  }
  return gear;
}();

// Calls `found(hash, offset within bytes)` at each landmark; the hash is of the 64 bytes before it.
template <class Found>
std::uint64_t roll(std::uint64_t hash, std::uint64_t limit, ByteView bytes, Found found) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    hash = (hash << 1) + kGear[static_cast<unsigned char>(bytes[i])];
    if (hash <= limit) found(hash, i);
  }
  return hash;
}

}  // namespace

void Landmarks::add(ByteView bytes) {
  hash_ = roll(hash_, limit_, bytes, [this](std::uint64_t hash, std::size_t i) {
    if (count_ >= kMaxLandmarks) return;
    std::vector<std::uint64_t>& places = places_[hash];
    // A run of equal bytes is one place, not thousands.
    if (!places.empty() && at_ + i - places.back() < kApart) return;
    places.push_back(at_ + i);
    ++count_;
  });
  at_ += bytes.size();
}

std::optional<std::int64_t> Landmarks::moved(ByteView piece, std::uint64_t offset) const {
  // By nearly the same: how many say so, and exactly what one of them says.
  struct Votes : std::map<std::int64_t, std::pair<std::size_t, std::int64_t>> {
    void add(std::uint64_t place, std::uint64_t here) {
      const auto by = static_cast<std::int64_t>(place) - static_cast<std::int64_t>(here);
      auto& [count, exactly] = (*this)[by / kNearby];
      ++count;
      exactly = by;
    }
  };
  Votes alone, repeated;
  roll(0, limit_, piece, [&](std::uint64_t hash, std::size_t i) {
    const auto known = places_.find(hash);
    if (known == places_.end()) return;
    const std::vector<std::uint64_t>& places = known->second;
    const std::uint64_t here = offset + i;
    if (places.size() == 1) return alone.add(places[0], here);
    auto nearest = std::ranges::lower_bound(places, here);
    const bool none_behind = nearest == places.end();
    if (none_behind || (nearest != places.begin() && here - nearest[-1] < *nearest - here))
      --nearest;
    repeated.add(*nearest, here);
  });
  const Votes& votes = alone.empty() ? repeated : alone;
  const auto most =
      std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second.first; });
  if (most == votes.end()) return std::nullopt;
  return most->second.second;
}

bool wants_pieces(const PackTarget& target, const PieceSizes& sizes) {
  return target.base && target.base->size > 0 &&
         target.base->size + target.file.size > sizes.whole &&
         target.base->size <= 16 * target.file.size;
}

std::optional<std::vector<MadePiece>> make_pieces(int target_fd, const FileRef& target, int base_fd,
                                                  const FileRef& base, const PieceSizes& sizes,
                                                  unsigned threads) try {
  Landmarks landmarks(sizes.landmark_bits);
  for (std::uint64_t at = 0; at < base.size; at += kChunk)
    landmarks.add(read_exactly_at(base_fd, std::min(kChunk, base.size - at), at, base.path));

  std::vector<MadePiece> made;
  std::uint64_t stored = 0;
  const std::uint64_t limit = std::min(target.size / 2, kMaxStored);
  // A few pieces ahead of the one that is taken.
  std::deque<std::future<MadePiece>> underway;
  const auto take = [&] {
    made.push_back(underway.front().get());
    underway.pop_front();
    stored += made.back().stored.size();
  };
  proto::Sha256 hash;
  for (std::uint64_t at = 0; at < target.size; at += sizes.piece) {
    auto piece = std::make_shared<Bytes>(
        read_exactly_at(target_fd, std::min(sizes.piece, target.size - at), at, target.path));
    hash.update(*piece);
    underway.push_back(std::async(std::launch::async, [&, piece, at] {
      MadePiece one{piece->size(), 0, 0, {}};
      if (const auto by = landmarks.moved(*piece, at)) {
        const auto from =
            static_cast<std::int64_t>(at) + *by - static_cast<std::int64_t>(sizes.margin);
        one.base_offset =
            std::min(static_cast<std::uint64_t>(std::max<std::int64_t>(from, 0)), base.size);
        one.base_size = std::min(piece->size() + 2 * sizes.margin, base.size - one.base_offset);
      }
      const Bytes prefix = read_exactly_at(base_fd, one.base_size, one.base_offset, base.path);
      one.stored = PatchEncoder().encode(*piece, prefix, kLevel);
      return one;
    }));
    if (underway.size() >= std::max(threads, 1u)) take();
    if (stored > limit) return std::nullopt;
  }
  while (!underway.empty()) take();
  if (stored > limit || hash.finish() != target.hash) return std::nullopt;
  return made;
} catch (const std::exception&) {
  return std::nullopt;  // it changed while it was read: fetched by hash, by whoever still has it
}

}  // namespace mirrorbus::tree
