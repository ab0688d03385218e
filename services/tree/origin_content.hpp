// What a tree, an origin's or a mirror's, hands out by hash: packs, nodes, contents. Reads beside the
// engine, with its own connection to the index, so that serving does not wait for a scan or a sync.
//
// A file that shares its inode with the live tree is handed out only if it is known to be what its
// name says: its stat is what the index recorded, or it has been hashed here and its stat is as it
// was then. The receiver hashes anyway; this is to say `gone` in time. One thread.
#pragma once

#include "bus/base/fd.hpp"
#include "services/tree/content_store.hpp"
#include "services/tree/index.hpp"

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <sys/stat.h>

namespace mirrorbus::tree {

struct ServedFile {
  base::Fd fd;
  struct stat st;
  std::uint64_t size() const { return static_cast<std::uint64_t>(st.st_size); }
  // Still what it was when it was opened.
  bool unchanged() const;
};

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
  bool remembered(const Hash& hash, const EntryStat& stat);
  void remember(const Hash& hash, const EntryStat& stat);
  std::optional<ServedFile> from_tree(const Hash& hash);
  void list_contents();

  Index index_;
  std::string work_, tree_path_;
  std::list<Good> recent_;  // the latest first
  std::unordered_map<Hash, std::list<Good>::iterator> by_hash_;

  // Where contents are in the tree, for those the store does not hold; made when first wanted.
  struct Place {
    std::uint64_t content;    // first eight bytes
    std::uint32_t directory;  // in directories_
    std::uint32_t at;         // in its node
    auto operator<=>(const Place&) const = default;
  };
  std::uint64_t listed_version_ = 0;
  std::vector<Place> places_;
  std::vector<Bytes> directories_;
};

}  // namespace mirrorbus::tree
