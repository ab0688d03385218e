#include "services/tree/dry_run.hpp"

#include "services/tree/sync_judge.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace mirrorbus::tree {

DryRun::DryRun(const MirrorSettings& settings, Index& index, const TargetVersion& to,
               ContentSource& source, const WorkControl& control)
    : settings_(settings), to_(to.update.record), job_(settings_, index) {
  const SyncJudge judge(settings_, job_.committed, to_);
  refusal_ = judge.version(job_.state.tree());
  const auto known = job_.target.fetch(source, to_.tree_hash, to_.counts, control);
  if (!known)
    throw std::runtime_error(fmt::format("version {} is not well-formed: {}", to_.number,
                                         to_string(known.error())));
  if (!refusal_) refusal_ = judge.deletions(job_.target);
  std::optional<ItemizedTree> was;
  if (job_.committed) was = itemized_version(job_.index, from());
  ItemizedTree now{job_.target.root(), job_.target.links(),
                   [this](const Hash& id) { return job_.target.encoded(id); },
                   [this](const Hash& id) { return job_.index.blob(id); }};
  itemizer_.emplace(std::move(was), std::move(now),
                    settings_.metadata.owner != OwnerMode::None);
}

ItemizedTree itemized_version(const Index& index, std::uint64_t number) {
  const auto version = index.version(number);
  if (!version) {
    const auto held = index.version_numbers();
    throw std::runtime_error(
        held.empty() ? "no version is held here yet"
                     : fmt::format("version {} is not held here; there are {} of {} to {}", number,
                                   held.size(), held.front(), held.back()));
  }
  const auto bytes = index.blob(version->root.links);
  auto links = bytes ? proto::decode_links(*bytes) : proto::refuse(proto::Reject::BadHash);
  if (!links) throw std::runtime_error("the index has lost a links table");
  return {version->root, std::move(*links), [&index, number](const Hash& id) {
            auto node = index.blob(id);
            if (!node)
              throw std::runtime_error(fmt::format("version {} is no longer held here", number));
            return std::move(*node);
          },
          [&index](const Hash& id) { return index.blob(id); }};
}

}  // namespace mirrorbus::tree
