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

// `once`: only one directory of each node, which is all of the contents there are.
void each_file(const TargetNodes& nodes, const Hash& top, const Bytes& top_path, bool once,
               const Visit& visit) {
  std::vector<std::pair<Bytes, Hash>> rest{{top_path, top}};
  std::unordered_set<Hash> met;
  while (!rest.empty()) {
    const auto [path, id] = std::move(rest.back());
    rest.pop_back();
    if (once && !met.insert(id).second) continue;
    const Bytes node = nodes.encoded(id);
    proto::NodeReader reader(node);
    Entry entry;
    while (reader.next(entry)) {
      if (entry.type == EntryType::File) visit(path, entry);
      if (entry.type == EntryType::Directory)
        rest.emplace_back(proto::join_path(path, entry.name), entry.content);
    }
  }
}

// Files of `from` at whose path `to` has nothing.
void each_gone(const TargetNodes& nodes, const Hash& from, const Hash& to, const Visit& visit) {
  struct Pair {
    Bytes path;
    Hash from, to;
  };
  std::vector<Pair> rest{{{}, from, to}};
  while (!rest.empty()) {
    const Pair pair = std::move(rest.back());
    rest.pop_back();
    if (pair.from == pair.to) continue;
    const Bytes old_bytes = nodes.encoded(pair.from), new_bytes = nodes.encoded(pair.to);
    proto::NodeReader olds(old_bytes), news(new_bytes);
    Entry old, now;
    bool more = news.next(now);
    while (olds.next(old)) {
      while (more && now.name < old.name) more = news.next(now);
      const bool there = more && now.name == old.name;
      if (old.type == EntryType::File && !there) visit(pair.path, old);
      if (old.type != EntryType::Directory) continue;
      Bytes path = proto::join_path(pair.path, old.name);
      if (there && now.type == EntryType::Directory)
        rest.push_back({std::move(path), old.content, now.content});
      else
        each_file(nodes, old.content, path, false, visit);
    }
  }
}

}  // namespace

std::uint64_t DeleteLimit::of(std::uint64_t files_there_were) const {
  const double part = std::floor(static_cast<double>(files_there_were) * share);
  return std::max(files, static_cast<std::uint64_t>(part));
}

Deletions count_deletions(const TargetNodes& nodes, const Hash& from, const Hash& to,
                          std::uint64_t limit) {
  Deletions deletions;
  deletions.limit = limit;
  each_gone(nodes, from, to, [&](const Bytes&, const Entry&) { ++deletions.files; });
  if (!deletions.too_many()) return deletions;

  std::unordered_set<Hash> lost;
  each_gone(nodes, from, to, [&](const Bytes&, const Entry& file) { lost.insert(file.content); });
  each_file(nodes, to, {}, true,
            [&](const Bytes&, const Entry& file) { lost.erase(file.content); });
  deletions.files = 0;
  each_gone(nodes, from, to, [&](const Bytes& directory, const Entry& file) {
    if (!lost.contains(file.content)) return;
    ++deletions.files;
    if (deletions.paths.size() < kNamedDeletions)
      deletions.paths.push_back(proto::join_path(directory, file.name));
  });
  return deletions;
}

}  // namespace mirrorbus::tree
