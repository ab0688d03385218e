// Where contents are in a tree, by its newest version's nodes, and what their files looked like when
// they were hashed. Made when first asked for, and anew when an answer is not to be had by what is
// known of an earlier version. One thread.
#pragma once

#include "services/tree/index.hpp"
#include "services/tree/root_dir.hpp"
#include "services/tree/served_file.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

class ContentPlaces {
 public:
  // `work`: the tree's work folder.
  ContentPlaces(const Index& index, std::string work, std::string tree_path)
      : index_(index), work_(std::move(work)), tree_path_(std::move(tree_path)) {}

  // A file of this content looked like `stat` when it was hashed.
  bool recorded(const Hash& hash, const EntryStat& stat);
  // The first file of this content that looks as recorded, or that `good` says yes to.
  using Good = std::function<bool(const ServedFile&)>;
  std::optional<ServedFile> open(const Hash& hash, const Good& good);

 private:
  struct Place {
    std::uint64_t content;    // first eight bytes
    std::uint32_t directory;  // in directories_
    std::uint32_t at;         // in its node
    std::uint32_t look = 0;   // look_of() its stat; 0 if that proves nothing
    auto operator<=>(const Place&) const = default;
  };
  struct Directory {
    std::uint32_t number;  // in directories_
    proto::Node node;
    std::vector<EntryStat> stats;
    RootDir::Dir dir;
  };
  bool refresh();  // true if there was a newer version
  bool listed(const Hash& hash, const EntryStat& stat) const;
  std::optional<ServedFile> find(const Hash& hash, const Good& good);
  const Directory* directory(std::uint32_t number);
  void forget_directories();

  const Index& index_;
  const std::string work_, tree_path_;
  std::uint64_t version_ = 0;
  std::vector<Place> places_;  // sorted
  std::vector<Bytes> directories_;
  // Asked for in tree order most often.
  std::optional<RootDir> root_;
  std::optional<Directory> last_;
};

}  // namespace mirrorbus::tree
