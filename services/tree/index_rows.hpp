// The directories of an Index, one row each, in two layers: committed and pending; and the root's
// own entry in both. Internal to Index, which groups what belongs into one commit.
#pragma once

#include "services/tree/index.hpp"

namespace mirrorbus::tree {

class IndexDb;

class IndexRows {
 public:
  explicit IndexRows(IndexDb& db) : db_(db) {}

  // ---- committed
  std::optional<DirectoryRow> committed(ByteView path) const;
  void put(const DirectoryRow& row);
  void put_stats(ByteView path, const std::vector<EntryStat>& stats);
  void remove(ByteView path);
  std::optional<RootRow> root() const;
  void set_root(const RootRow& root);

  void each_directory(ByteView under,
                      const std::function<bool(const DirectoryRow&)>& visit) const;
  void each_node(ByteView first, ByteView last,
                 const std::function<bool(const Index::NodeRow&)>& visit) const;
  std::optional<Bytes> node(const Hash& id) const;
  std::vector<Bytes> paths_of_node(const Hash& id) const;

  // ---- pending
  std::optional<PendingRow> pending(ByteView path) const;
  void stage(const DirectoryRow& row);
  void stage_stats(ByteView path, const std::vector<EntryStat>& stats);
  void stage_removal(ByteView path);  // of everything below it too
  void unstage(ByteView path);
  std::optional<RootRow> pending_root() const;
  void stage_root(const RootRow& root);
  void unstage_root();

  bool any_pending() const;
  void each_pending(Index::Order order,
                    const std::function<bool(const PendingRow&)>& visit) const;
  void note_seen(const Hash& content);
  bool seen(const Hash& content) const;
  void drop_pending();

 private:
  IndexDb& db_;
};

}  // namespace mirrorbus::tree
