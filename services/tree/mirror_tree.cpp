#include "services/tree/mirror_tree.hpp"

#include "bus/base/fd.hpp"
#include "services/tree/mirror_state.hpp"
#include "services/tree/pack_shelf.hpp"
#include "services/tree/snapshot_mend.hpp"
#include "services/tree/sync_run.hpp"
#include "services/tree/verify_run.hpp"

#include <algorithm>
#include <stdexcept>

#include <fcntl.h>

namespace mirrorbus::tree {

base::Fd MirrorSettings::open_work() const {
  base::Fd fd(::open(work.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) base::throw_errno("open work folder " + work);
  return fd;
}

MirrorTree::MirrorTree(MirrorSettings settings, Index& index)
    : settings_(std::move(settings)), index_(index), ops_(settings_.probe) {
  while (settings_.path.size() > 1 && settings_.path.ends_with('/')) settings_.path.pop_back();
}
MirrorTree::~MirrorTree() = default;

std::optional<StoredVersion> MirrorTree::committed() const {
  return index_.newest();
}

std::vector<MissingItem> MirrorTree::missing() const {
  return MirrorState(index_).missing();
}

SyncResult MirrorTree::bring_to(const std::vector<TargetVersion>& versions, ContentSource& source,
                                const WorkControl& control,
                                const std::optional<Refusal>& accepted) {
  return SyncRun(settings_, index_, versions, source, control).bring_to(accepted, false);
}

void MirrorTree::retain(base::WallTime now) {
  index_.forget_versions_below(oldest_retained(index_, settings_.retain, now));
  shelf().tidy(index_, settings_.keep_packs_bytes);
}

PackShelf MirrorTree::shelf() const {
  const base::Fd work = settings_.open_work();
  return PackShelf(work.get());
}

void MirrorTree::settle() {
  const bool snapshots = Snapshots::any(index_);
  if (committed() && snapshots != settings_.snapshot)
    throw std::runtime_error(
        settings_.path + " was mirrored with apply = \"" + (snapshots ? "snapshot" : "inplace") +
        "\", and the one does not become the other: to begin anew, move it away and remove the "
        "tree's state and work folder");
  if (settings_.snapshot) return held().settle();
  if (settings_.subtree.empty() || !committed()) return;
  const TreeLink link = shown_by();
  if (const auto why = link.unfit(false)) throw std::runtime_error(*why);
  if (link.would_show("part")) link.lead_to("part");
}

TreeLink MirrorTree::shown_by() const {
  return {settings_.path, settings_.work, settings_.subtree, ops_};
}

Snapshots MirrorTree::held() const {
  if (!settings_.snapshot)
    throw std::runtime_error("only a mirror with apply = \"snapshot\" holds more than one version");
  return {shown_by(), settings_.work, index_, ops_};
}

std::vector<Snapshot> MirrorTree::snapshots() const { return held().all(); }
std::optional<Snapshot> MirrorTree::pinned() const { return held().pinned(); }
void MirrorTree::pin(std::uint64_t number) { held().pin(number); }
void MirrorTree::unpin() { held().unpin(); }
bool MirrorTree::sweep(const Snapshots::Keep& keep, base::WallTime now, std::size_t limit) {
  return held().sweep(keep, now, limit);
}

VerifyResult MirrorTree::verify(const WorkControl& control) {
  return VerifyRun(settings_, index_, control).verify();
}

std::vector<TargetVersion> MirrorTree::committed_again() const {
  const auto version = committed();
  if (!version) throw std::runtime_error("nothing is committed yet: there is nothing to repair");
  std::vector<TargetVersion> versions(1);
  TargetVersion& self = versions.front();
  self.update.record = version->record;
  self.update.pack = version->pack;
  self.body = version->body;
  self.sealed = version->sealed;
  return versions;
}

SyncResult MirrorTree::repair(ContentSource& source, const WorkControl& control) {
  return SyncRun(settings_, index_, committed_again(), source, control).bring_to({}, true);
}

bool MirrorTree::mend_kept(const KeptReport& found, ContentSource& source) {
  PackShelf shelf = this->shelf();
  std::uint64_t mended = 0;
  for (const Rot& rot : found.rotten) {
    if (rot.kind != Rot::Kind::Pack) continue;
    shelf.remove(rot.hash);
    ++mended;
  }
  for (const std::uint64_t number : index_.version_numbers()) {
    const auto version = index_.version(number);
    const auto is_it = [&](const Rot& rot) {
      return version->pack && rot.hash == version->pack->sha256;
    };
    if (!version || std::ranges::none_of(found.rotten, is_it)) continue;
    try {
      shelf.fetch(*version->pack, source);
    } catch (const SourceError&) {
      // Others have it, or nobody: it is one way among several.
    }
  }
  return mended == found.count;
}

bool MirrorTree::mend_older(ContentSource& source) {
  if (!settings_.snapshot) return true;
  const Snapshots snapshots = held();
  const base::Fd work = settings_.open_work();
  SnapshotMend mend(settings_, index_, snapshots, source, work.get());
  KeptReport left;
  SnapshotCheck(settings_, index_, snapshots)
      .run(left, [](std::uint64_t) {}, [&](const auto& file) { return mend.mend(file); });
  mend.finish();
  return left.count == 0;
}

SyncResult MirrorTree::mend(ContentSource& source, const WorkControl& control) {
  return SyncRun(settings_, index_, committed_again(), source, control).bring_to({}, false);
}

bool MirrorTree::in_place() const {
  base::Fd fd(::open(settings_.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return false;
  if (!fd) base::throw_errno("open tree " + settings_.path);
  const auto expected = MirrorState(index_).root();
  return expected && expected->same(RootIdentity::of(fd.get()));
}

}  // namespace mirrorbus::tree
