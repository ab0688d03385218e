// Makes an origin's own tree what an older version of it was: the plan, the staging, the apply and
// the check of a mirror, with the origin's store as the source. What comes of it is scanned and
// published by its owner, like any change.
//
// Internal to OriginTree. Blocking. The index has to know the tree as it is: scanned, and nothing
// pending. Its rows are left as they are; that a rollback was begun is noted in it, durably, before
// anything is changed, so that one that was cut off is taken up again.
#pragma once

#include "services/tree/content_store.hpp"
#include "services/tree/index.hpp"
#include "services/tree/progress.hpp"
#include "services/tree/scan.hpp"
#include "services/tree/work_folder.hpp"

namespace mirrorbus::tree {

class Rollback {
 public:
  Rollback(const std::string& tree_path, const ScanSettings& scan, const WorkFolder& work,
           Index& index, ContentStore& store)
      : tree_path_(tree_path), scan_(scan), work_(work), index_(index), store_(store) {}

  // The version whose rollback was begun and is not finished; 0: none.
  static std::uint64_t unfinished(const Index& index);
  // Leaves the tree as it now is.
  static void give_up(Index& index);

  // std::runtime_error, and nothing has been changed, if the version or a content of it is no
  // longer held, or a directory that would go holds what is not part of the tree. Any other failure
  // leaves it unfinished.
  void to(std::uint64_t number, const WorkControl& control);

 private:
  void check_contents(const StoredVersion& version, const WorkControl& control);
  void check_directories(const StoredVersion& version) const;

  const std::string tree_path_;
  const ScanSettings& scan_;
  const WorkFolder& work_;
  Index& index_;
  ContentStore& store_;
};

}  // namespace mirrorbus::tree
