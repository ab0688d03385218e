// Makes delta packs between snapshots, through an index of its own.
#pragma once

#include "services/tree/index.hpp"
#include "services/tree/pack_reader.hpp"
#include "services/tree/pack_writer.hpp"
#include "test/support/tree_snapshot.hpp"

namespace mirrorbus::test {

class PackedOrigin {
 public:
  // `folder` is there; packs go into it.
  explicit PackedOrigin(const std::string& folder);

  // The snapshot's version with the pack that leads to it from the one before. Contents are the
  // snapshots' own (held ones for what the directory does not have any more).
  tree::TargetVersion publish(const TreeSnapshot& snapshot);
  // The packs, by hash, for a source.
  std::string pack_path(const proto::Hash& pack) const { return folder_ + "/" + to_hex(pack); }
  tree::PackStats stats;
  // Small, so that pieces are made of the files that tests have.
  tree::PieceSizes sizes{.whole = 8000, .piece = 3000, .margin = 1000, .landmark_bits = 6};

 private:
  std::string folder_;
  tree::Index index_;
  std::unordered_map<proto::Hash, proto::Bytes> held_;
  std::unordered_map<proto::Hash, std::string> contents_;
};

}  // namespace mirrorbus::test
