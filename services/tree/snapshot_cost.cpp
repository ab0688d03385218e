#include "services/tree/snapshot_cost.hpp"

#include <unordered_map>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

namespace {

constexpr std::uint64_t kDirectoryBytes = 4096;

}  // namespace

std::uint64_t SnapshotCost::bytes() const { return content_bytes + directories * kDirectoryBytes; }

SnapshotCost snapshot_cost(const TargetNodes& nodes, const std::optional<Hash>& from,
                           const Hash& to, std::uint64_t directories,
                           const MetadataPolicy::Settings& policy) {
  // By content, since most often what is moved is moved as it is.
  std::unordered_map<Hash, std::pair<std::uint64_t, std::int64_t>> files;  // size; how many more
  struct Pair {
    std::optional<Hash> from, to;
  };
  std::vector<Pair> rest{{from, to}};
  const auto visit = [&](const Entry* old, const Entry* now) {
    const auto content = [](const Entry* entry, EntryType type) {
      return entry && entry->type == type ? std::optional(entry->content) : std::nullopt;
    };
    const Pair below{content(old, EntryType::Directory), content(now, EntryType::Directory)};
    if (below.from != below.to) rest.push_back(below);
    const bool was_file = old && old->type == EntryType::File;
    const bool is_file = now && now->type == EntryType::File;
    if (was_file && is_file && old->content == now->content) {
      if (policy.same_metadata(*old, *now)) return;
      files[now->content].first = now->size;
      ++files[now->content].second;
      return;
    }
    if (was_file) --files.try_emplace(old->content, old->size, 0).first->second.second;
    if (is_file) ++files.try_emplace(now->content, now->size, 0).first->second.second;
  };
  while (!rest.empty()) {
    const Pair pair = rest.back();
    rest.pop_back();
    const proto::Node nothing;
    const proto::Node olds = pair.from ? nodes.node(*pair.from) : nothing;
    const proto::Node news = pair.to ? nodes.node(*pair.to) : nothing;
    auto old = olds.entries.begin();
    for (const Entry& now : news.entries) {
      for (; old != olds.entries.end() && old->name < now.name; ++old) visit(&*old, nullptr);
      const bool both = old != olds.entries.end() && old->name == now.name;
      visit(both ? &*old++ : nullptr, &now);
    }
    for (; old != olds.entries.end(); ++old) visit(&*old, nullptr);
  }
  SnapshotCost cost;
  cost.directories = directories;
  for (const auto& [hash, file] : files)
    if (file.second > 0) cost.content_bytes += file.first * static_cast<std::uint64_t>(file.second);
  return cost;
}

}  // namespace mirrorbus::tree
