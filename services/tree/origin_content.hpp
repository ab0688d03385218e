// What a tree, an origin's or a mirror's, hands out by hash: packs, nodes, contents. Reads beside the
// engine, with its own connection to the index, so that serving does not wait for a scan or a sync.
//
// A file that shares its inode with the live tree is handed out only if it is known to be what its
// name says: its stat is what the index recorded when it was hashed, or it has been hashed here and
// its stat is as it was then. The receiver hashes anyway; this is to say `gone` in time. One thread.
#pragma once

#include "services/tree/content_places.hpp"

#include <list>
#include <string>
#include <unordered_map>

namespace mirrorbus::tree {

class OriginContent {
 public:
  // `work`: the tree's work folder.
  OriginContent(const std::string& index_file, const std::string& work,
                const std::string& tree_path);
  ~OriginContent();

  std::optional<ServedFile> pack(const Hash& hash);
  std::optional<Bytes> node(const Hash& hash);
  std::optional<ServedFile> object(const Hash& hash);

 private:
  // A content as it was when it was known to be good.
  struct Good {
    Hash hash;
    EntryStat stat;
  };
  bool good(const Hash& hash, const ServedFile& file);
  bool hashes_to(const Hash& hash, const ServedFile& file);
  bool remembered(const Hash& hash, const EntryStat& stat);
  void remember(const Hash& hash, const EntryStat& stat);

  Index index_;
  std::string work_;
  base::Fd objects_;
  ContentPlaces places_;
  std::list<Good> recent_;  // the latest first
  std::unordered_map<Hash, std::list<Good>::iterator> by_hash_;
};

}  // namespace mirrorbus::tree
