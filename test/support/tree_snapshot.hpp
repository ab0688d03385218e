// A version of a directory tree, made in memory by the plainest possible scan: what a mirror's
// tests take for an origin.
#pragma once

#include "proto/tree_update.hpp"
#include "services/tree/content_source.hpp"
#include "services/tree/mirror_tree.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

namespace mirrorbus::test {

struct TreeSnapshot {
  proto::TreeRoot root;
  proto::VersionRecord record;
  std::unordered_map<proto::Hash, proto::Bytes> blobs;    // nodes, tables, the tree root
  std::unordered_map<proto::Hash, std::string> contents;  // absolute path of a file that has it
  std::unordered_map<proto::Hash, proto::Bytes> held;     // contents themselves, if asked for

  tree::TargetVersion version() const;
  // Hashes the root and fills in the record, after `root` was changed by hand.
  void seal();
};

// `hold_contents`: the snapshot stays good when the directory goes on changing.
TreeSnapshot take_snapshot(const std::string& path, std::uint64_t number,
                           const TreeSnapshot* before = nullptr, bool hold_contents = false);

// Sends what its snapshots have.
class SnapshotSource : public tree::ContentSource {
 public:
  void add(const TreeSnapshot& snapshot);
  void add_pack(const proto::Hash& pack, const std::string& path) { contents_[pack] = path; }

  // Faults. Contents answered as gone; sent with a byte changed, or cut short; not answered.
  std::set<proto::Hash> gone, damaged, cut, silent;
  std::function<void()> before_objects;         // called before each request
  std::uint64_t fail_after_bytes = UINT64_MAX;  // then SourceError, once

  std::string name() const override { return "snapshot"; }
  void fetch_pack(const tree::Wanted& pack, std::uint64_t offset, tree::ContentSink& sink) override;
  void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                   tree::ContentSink& sink) override;
  void fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) override;
  void fetch_range(const tree::Wanted& object, std::uint64_t offset,
                   tree::ContentSink& sink) override;
  void bad(const proto::Hash& hash, proto::Reject why, const std::string& what) override;
  std::uint64_t bytes_received() const override { return bytes_; }

  std::uint64_t object_bytes = 0;
  std::size_t nodes_sent = 0, objects_sent = 0, packs_sent = 0;
  std::vector<std::string> complaints;

 private:
  void send(const proto::Hash& hash, proto::ByteView bytes, tree::ContentSink& sink);
  std::optional<proto::Bytes> content(const proto::Hash& hash) const;

  std::unordered_map<proto::Hash, proto::Bytes> blobs_, held_;
  std::unordered_map<proto::Hash, std::string> contents_;
  std::uint64_t bytes_ = 0;
};

}  // namespace mirrorbus::test
