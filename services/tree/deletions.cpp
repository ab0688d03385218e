#include "services/tree/deletions.hpp"

#include "proto/tree_path.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <unordered_set>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

namespace {

using Visit = std::function<void(const Bytes& directory, const Entry& file)>;

// A tree's regular files, as far as a filter lets them through.
class Files {
 public:
  Files(const TargetNodes& nodes, const PathFilter& filter) : nodes_(nodes), filter_(filter) {}

  // `once`: only one directory of each node, which is all of the contents there are.
  void each(const Hash& top, const Bytes& top_path, bool once, const Visit& visit) const;
  // Those of `from` at whose path `to` has nothing.
  void each_gone(const Hash& from, const Hash& to, const Visit& visit) const;

 private:
  bool held(const Bytes& path, const Entry& entry) const {
    return filter_.empty() ||
           (!filter_.excludes(path) &&
            (entry.type != EntryType::File || !filter_.excludes_size(entry.size)));
  }

  const TargetNodes& nodes_;
  const PathFilter& filter_;
};

void Files::each(const Hash& top, const Bytes& top_path, bool once, const Visit& visit) const {
  // Where paths decide, a directory is not as good as another with the same node.
  once = once && filter_.empty();
  std::vector<std::pair<Bytes, Hash>> rest{{top_path, top}};
  std::unordered_set<Hash> met;
  while (!rest.empty()) {
    const auto [directory, id] = std::move(rest.back());
    rest.pop_back();
    if (once && !met.insert(id).second) continue;
    const Bytes node = nodes_.encoded(id);
    proto::NodeReader reader(node);
    Entry entry;
    while (reader.next(entry)) {
      if (entry.type != EntryType::File && entry.type != EntryType::Directory) continue;
      Bytes path = proto::join_path(directory, entry.name);
      if (!held(path, entry)) continue;
      if (entry.type == EntryType::File)
        visit(directory, entry);
      else
        rest.emplace_back(std::move(path), entry.content);
    }
  }
}

void Files::each_gone(const Hash& from, const Hash& to, const Visit& visit) const {
  struct Pair {
    Bytes path;
    Hash from, to;
  };
  std::vector<Pair> rest{{{}, from, to}};
  while (!rest.empty()) {
    const Pair pair = std::move(rest.back());
    rest.pop_back();
    if (pair.from == pair.to) continue;
    const Bytes old_bytes = nodes_.encoded(pair.from), new_bytes = nodes_.encoded(pair.to);
    proto::NodeReader olds(old_bytes), news(new_bytes);
    Entry old, now;
    bool more = news.next(now);
    while (olds.next(old)) {
      while (more && now.name < old.name) more = news.next(now);
      if (old.type != EntryType::File && old.type != EntryType::Directory) continue;
      Bytes path = proto::join_path(pair.path, old.name);
      if (!held(path, old)) continue;
      const bool there = more && now.name == old.name && held(path, now);
      if (old.type == EntryType::File && !there) visit(pair.path, old);
      if (old.type != EntryType::Directory) continue;
      if (there && now.type == EntryType::Directory)
        rest.push_back({std::move(path), old.content, now.content});
      else
        each(old.content, path, false, visit);
    }
  }
}

}  // namespace

std::uint64_t DeleteLimit::of(std::uint64_t files_there_were) const {
  const double part = std::floor(static_cast<double>(files_there_were) * share);
  return std::max(files, static_cast<std::uint64_t>(part));
}

Deletions count_deletions(const TargetNodes& nodes, const Hash& from, const Hash& to,
                          const DeleteLimit& limit, std::uint64_t files,
                          const PathFilter& filter) {
  const Files held(nodes, filter);
  Deletions deletions;
  deletions.limit = limit.files;
  held.each_gone(from, to, [&](const Bytes&, const Entry&) { ++deletions.files; });
  if (!deletions.too_many()) return deletions;
  if (filter.empty())
    deletions.of = files;
  else
    held.each(from, {}, false, [&](const Bytes&, const Entry&) { ++deletions.of; });
  deletions.limit = limit.of(deletions.of);
  if (!deletions.too_many()) return deletions;

  std::unordered_set<Hash> lost;
  held.each_gone(from, to, [&](const Bytes&, const Entry& file) { lost.insert(file.content); });
  held.each(to, {}, true, [&](const Bytes&, const Entry& file) { lost.erase(file.content); });
  deletions.files = 0;
  held.each_gone(from, to, [&](const Bytes& directory, const Entry& file) {
    if (!lost.contains(file.content)) return;
    ++deletions.files;
    if (deletions.paths.size() < kNamedDeletions)
      deletions.paths.push_back(proto::join_path(directory, file.name));
  });
  return deletions;
}

}  // namespace mirrorbus::tree
