#include "services/tree/sync_judge.hpp"

#include "bus/base/fd.hpp"

#include <fmt/format.h>

#include <sys/statvfs.h>

namespace mirrorbus::tree {

using proto::Reject;

Refusal SyncJudge::refusal(Reject why, std::string text) const {
  Refusal r;
  r.why = why;
  r.text = std::move(text);
  r.number = to_.number;
  r.tree_hash = to_.tree_hash;
  r.from = committed_ ? committed_->record.number : 0;
  return r;
}

std::optional<Refusal> SyncJudge::version(const std::optional<Bytes>& pinned) const {
  if (pinned && *pinned != to_.tree.view())
    return refusal(Reject::ForeignTree,
                   fmt::format("this mirror follows tree {}, and that is version {} of tree {}",
                               proto::to_hex(*pinned), to_.number, to_hex(to_.tree)));
  if (!committed_) return {};
  const proto::VersionRecord& has = committed_->record;
  if (to_.number < has.number)
    return refusal(Reject::VersionRollback,
                   fmt::format("version {} is older than version {}, which is here", to_.number,
                               has.number));
  if (to_.number == has.number && !(to_ == has))
    return refusal(Reject::Fork, fmt::format("there are two different versions {}", to_.number));
  return {};
}

std::optional<Refusal> SyncJudge::deletions(const TargetTree& target) const {
  if (!committed_) return {};
  const auto deletions = count_deletions(
      target, committed_->root.entry.content, target.root().entry.content, settings_.max_delete,
      committed_->record.counts.files, settings_.metadata.filter);
  if (!deletions.too_many()) return {};
  Refusal r = refusal(Reject::MaxDelete, "");
  r.deletions = deletions.files;
  r.limit = deletions.limit;
  r.paths = deletions.paths;
  r.text = fmt::format(
      "version {} would delete {} of {} files, more than max_delete allows ({}): "
      "look at the paths, then accept it or raise max_delete",
      r.number, r.deletions, deletions.of, r.limit);
  return r;
}

std::optional<Refusal> SyncJudge::space(std::uint64_t needed, int work) const {
  struct statvfs fs;
  if (::fstatvfs(work, &fs) != 0) base::throw_errno("statvfs the work folder");
  const std::uint64_t free = static_cast<std::uint64_t>(fs.f_bavail) * fs.f_frsize;
  if (free >= needed && free - needed >= settings_.min_free_bytes) return {};
  return refusal(Reject::Unavailable,
                 fmt::format("{} bytes are needed and {} to stay free (min_free), but only {} are "
                             "free: make room in {}",
                             needed, settings_.min_free_bytes, free, settings_.work));
}

}  // namespace mirrorbus::tree
