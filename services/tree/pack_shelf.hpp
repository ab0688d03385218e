// The packs that a mirror brings in and keeps to hand them out: files in its work folder, each
// named by its hash once that is proven. What is still coming has another name (`.part` behind it).
#pragma once

#include "bus/base/fd.hpp"
#include "proto/pack.hpp"
#include "services/tree/content_source.hpp"
#include "services/tree/index.hpp"

namespace mirrorbus::tree {

class PackShelf {
 public:
  // The folder `packs` of the work folder `work`; made if need be.
  explicit PackShelf(int work);

  // One that is here whole, or comes from `source` now. Nothing if it is not to be had.
  base::Fd fetch(const proto::PackRef& pack, ContentSource& source);
  void remove(const proto::Hash& pack);
  // What was on its way is not needed any more.
  void drop_unfinished();
  // Keeps the packs of the newest versions that the index retains, as far as they fit into
  // `max_bytes` together (0: none are kept), and removes all others.
  void tidy(const Index& index, std::uint64_t max_bytes);

 private:
  base::Fd kept(const proto::PackRef& pack);

  base::Fd folder_;
};

}  // namespace mirrorbus::tree
