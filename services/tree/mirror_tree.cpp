#include "services/tree/mirror_tree.hpp"

#include "services/tree/sync_run.hpp"

namespace mirrorbus::tree {

MirrorTree::MirrorTree(MirrorSettings settings, Index& index)
    : settings_(std::move(settings)), index_(index) {
  while (settings_.path.size() > 1 && settings_.path.ends_with('/')) settings_.path.pop_back();
}
MirrorTree::~MirrorTree() = default;

std::optional<StoredVersion> MirrorTree::committed() const {
  return index_.newest();
}

std::vector<MissingItem> MirrorTree::missing() const {
  return SyncRun::missing(index_);
}

SyncResult MirrorTree::bring_to(const std::vector<TargetVersion>& versions, ContentSource& source,
                                const WorkControl& control,
                                const std::optional<Refusal>& accepted) {
  return SyncRun(settings_, index_, control).bring_to(versions, source, accepted, false);
}

}  // namespace mirrorbus::tree
