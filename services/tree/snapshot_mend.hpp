// Puts files of older versions right that SnapshotCheck has found not to be what was signed: a new
// inode under every name that the old one has in these versions. The content comes from a version
// beside, else from a source. Directories that are missing stay so. One thread; throws what
// concerns everything (disk full).
#pragma once

#include "services/tree/content_source.hpp"
#include "services/tree/metadata_policy.hpp"
#include "services/tree/snapshot_check.hpp"
#include "services/tree/staging.hpp"

#include <map>
#include <memory>
#include <utility>

namespace mirrorbus::tree {

class SnapshotMend {
 public:
  // `work`: the work folder.
  SnapshotMend(const MirrorSettings& settings, const Index& index, const Snapshots& snapshots,
               ContentSource& source, int work);
  ~SnapshotMend();
  SnapshotMend(const SnapshotMend&) = delete;
  SnapshotMend& operator=(const SnapshotMend&) = delete;

  // False if it could not be had or put there.
  bool mend(const SnapshotCheck::File& file);
  // Everything is on disk.
  void finish();

 private:
  // What files of one version are given.
  struct Dress;
  // By device and inode of what they replace.
  using Inode = std::pair<std::uint64_t, std::uint64_t>;

  std::optional<Bytes> staged(const SnapshotCheck::File& file);
  std::optional<std::uint32_t> content(const SnapshotCheck::File& file);
  std::optional<std::uint32_t> copied(const SnapshotCheck::File& file, const Wanted& wanted);
  std::optional<std::uint32_t> fetched(const Wanted& wanted);
  void place(const Bytes& staged, int dir, const Bytes& name);
  void place_before(const Bytes& staged, const SnapshotCheck::File& file);
  Dress* dress(const StoredVersion& version);

  const MirrorSettings& settings_;
  const Index& index_;
  const Snapshots& snapshots_;
  const std::vector<Snapshot> all_;
  ContentSource& source_;
  const int work_;
  const EntryOps ops_;
  Staging staging_;
  bool source_failed_ = false;
  std::unique_ptr<Dress> dress_;
  std::map<Inode, Bytes> by_inode_;
  std::vector<Bytes> names_;  // in staging
};

}  // namespace mirrorbus::tree
