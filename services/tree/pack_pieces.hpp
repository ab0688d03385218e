// Patches for files that are too large to be taken whole: piece by piece, each against the part of
// the base that it was most likely made from. See "Large files" in proto/pack.md.
#pragma once

#include "proto/pack.hpp"
#include "services/tree/pack_targets.hpp"

#include <optional>
#include <unordered_map>
#include <vector>

namespace mirrorbus::tree {

struct PieceSizes {
  std::uint64_t whole = proto::kMaxPackSpan;  // a file and its base together: more is for pieces
  std::uint64_t piece = 16 << 20;
  std::uint64_t margin = 8 << 20;  // of the base, before and behind where a piece was
  unsigned landmark_bits = 16;     // a landmark in 2^this bytes
};

// Places of a file that are found again wherever its bytes have moved to: where a rolling hash of the
// last bytes is small.
class Landmarks {
 public:
  explicit Landmarks(unsigned bits) : limit_(UINT64_MAX >> bits) {}
  // The next bytes of the base.
  void add(proto::ByteView bytes);
  // By how much the piece at `offset` of the target has moved: offset in the base less offset in the
  // target, as most of its landmarks have it that stand once in the base; if it has none of those, as
  // most of the others have it, each taken where it stands nearest to where it was. Nothing if it has
  // none at all.
  std::optional<std::int64_t> moved(proto::ByteView piece, std::uint64_t offset) const;

 private:
  std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> places_;  // by hash, ascending
  std::size_t count_ = 0;                                                 // of places
  std::uint64_t limit_, hash_ = 0, at_ = 0;
};

struct MadePiece {
  std::uint64_t size = 0;  // of the target
  std::uint64_t base_offset = 0, base_size = 0;
  proto::Bytes stored;
};

// Whether pieces are tried for this target: it has a base, and the two are too large for a group.
bool wants_pieces(const PackTarget& target, const PieceSizes& sizes);
// Nothing if that would not save half, or a file could not be read or is not what it should be.
// Blocking; encodes on `threads` threads.
std::optional<std::vector<MadePiece>> make_pieces(int target_fd, const FileRef& target, int base_fd,
                                                  const FileRef& base, const PieceSizes& sizes,
                                                  unsigned threads);

}  // namespace mirrorbus::tree
