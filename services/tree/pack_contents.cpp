#include "services/tree/pack_contents.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "services/tree/pack_pieces.hpp"
#include "services/tree/patch.hpp"

#include <algorithm>
#include <deque>
#include <future>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using proto::GroupTarget;

namespace {

constexpr std::uint64_t kGroupSize = 1024 * 1024;  // old and new bytes
constexpr std::uint64_t kMaxPlain = 64 * 1024;     // compressed, of content without a useful base
constexpr std::uint64_t kMaxPlainTry = 1024 * 1024;
constexpr int kLevel = 9;
// Large contents cost time; where long-distance matching does the work a high level adds little.
constexpr int kLargeLevel = 3;
constexpr std::uint64_t kLarge = 8 * 1024 * 1024;
// An index names each target; beyond this contents are better fetched by hash.
constexpr std::size_t kMaxTargets = 2'000'000;

// Loading a base costs time in proportion to its size.
bool worth_it(const FileRef& base, const FileRef& file, const PieceSizes& sizes) {
  return base.size + file.size <= sizes.whole && base.size <= 16 * file.size + kGroupSize;
}

struct Group {
  std::vector<std::size_t> targets;
  std::uint64_t span = 0;
};

struct Made {
  std::vector<GroupTarget> targets;
  Bytes stored;
};

class GroupMaker {
 public:
  GroupMaker(const PackInput& input, const PackTargets& targets)
      : input_(input), targets_(targets) {}

  // The group, less what cannot be had; several if together they were no good; none.
  std::vector<Made> make(const Group& group) {
    std::vector<Made> made;
    Loaded loaded = load(group.targets);
    if (loaded.targets.empty()) return made;
    Made one{std::move(loaded.targets), encode(loaded)};
    const bool poor = one.stored.size() > kMaxPlain && one.stored.size() > loaded.data.size() / 2;
    if (poor && one.targets.size() > 1) {
      // Something in it does not profit from its base: find out what, and leave that out.
      for (const std::size_t target : group.targets)
        for (Made& single : make({{target}, 0})) made.push_back(std::move(single));
    } else if (!useless(one, loaded)) {
      made.push_back(std::move(one));
    }
    return made;
  }

 private:
  struct Loaded {
    std::vector<GroupTarget> targets;
    Bytes data, prefix;
  };

  Loaded load(const std::vector<std::size_t>& numbers) const {
    Loaded loaded;
    for (const std::size_t number : numbers) {
      const PackTarget& target = targets_.all()[number];
      const auto content = input_.read_target(target.file);
      if (!content || content->size() != target.file.size ||
          proto::sha256(*content) != target.file.hash)
        continue;
      GroupTarget item;
      item.target = number;
      if (target.base && worth_it(*target.base, target.file, input_.sizes)) {
        const auto base = input_.read_base(*target.base);
        if (base && base->size() == target.base->size && proto::sha256(*base) == target.base->hash) {
          item.base = GroupTarget::Base::SamePath;
          loaded.prefix += *base;
        }
      }
      if (item.base == GroupTarget::Base::None && target.file.size > kMaxPlainTry) continue;
      loaded.data += *content;
      loaded.targets.push_back(item);
    }
    return loaded;
  }

  Bytes encode(const Loaded& loaded) {
    const bool large = loaded.data.size() + loaded.prefix.size() > kLarge;
    return encoder_.encode(loaded.data, loaded.prefix, large ? kLargeLevel : kLevel);
  }

  // One content alone that is better fetched by hash: from any holder, by ranges.
  static bool useless(const Made& made, const Loaded& loaded) {
    if (made.targets.size() > 1 || made.stored.size() <= kMaxPlain) return false;
    return made.targets[0].base == GroupTarget::Base::None ||
           made.stored.size() > loaded.data.size() / 4 * 3;
  }

  const PackInput& input_;
  const PackTargets& targets_;
  PatchEncoder encoder_;
};

// Targets whose content the base tree has somewhere.
std::unordered_map<std::size_t, Bytes> find_copies(const PackInput& input,
                                                   const PackTargets& targets) {
  std::unordered_set<Hash> wanted;
  for (const PackTarget& target : targets.all())
    if (!input.maybe_in_base || input.maybe_in_base(target.file.hash))
      wanted.insert(target.file.hash);
  std::unordered_map<std::size_t, Bytes> found;
  if (wanted.empty()) return found;
  const Bytes last(proto::kMaxFileNameSize + 1, '\xff');
  input.index.each_node("", last, [&](const Index::NodeRow& row) {
    proto::NodeReader reader(row.node);
    Entry entry;
    while (reader.next(entry))
      if (entry.type == EntryType::File && wanted.erase(entry.content) > 0)
        found.emplace(*targets.find(entry.content), proto::join_path(row.path, entry.name));
    return !wanted.empty();
  });
  return found;
}

// Small contents together, with what they were; large ones alone.
std::vector<Group> groups_of(const PackTargets& targets, const PieceSizes& sizes,
                             const std::unordered_map<std::size_t, Bytes>& copies) {
  std::vector<Group> groups;
  Group open;
  for (std::size_t i = 0; i < targets.all().size(); ++i) {
    if (copies.contains(i)) continue;
    const PackTarget& target = targets.all()[i];
    if (wants_pieces(target, sizes)) continue;
    const bool based = target.base && worth_it(*target.base, target.file, sizes);
    if (!based && target.file.size > kMaxPlainTry) continue;
    const std::uint64_t span = target.file.size + (based ? target.base->size : 0);
    if (span > kGroupSize || (!based && target.file.size > kMaxPlain)) {
      groups.push_back({{i}, span});
      continue;
    }
    if (open.span + span > kGroupSize) groups.push_back(std::exchange(open, {}));
    open.targets.push_back(i);
    open.span += span;
  }
  if (!open.targets.empty()) groups.push_back(std::move(open));
  return groups;
}

void add_large(const PackInput& input, const PackTargets& targets,
               const std::unordered_map<std::size_t, Bytes>& copies, proto::PackIndex& index,
               const std::function<void(ByteView stored)>& sink) {
  if (!input.open_base || !input.open_target) return;
  for (std::size_t i = 0; i < targets.all().size(); ++i) {
    const PackTarget& target = targets.all()[i];
    if (copies.contains(i) || !wants_pieces(target, input.sizes)) continue;
    const base::Fd base = input.open_base(*target.base), file = input.open_target(target.file);
    if (!base || !file) continue;
    const auto made =
        make_pieces(file.get(), target.file, base.get(), *target.base, input.sizes, input.threads);
    if (!made) continue;
    proto::PackLarge& large = index.large.emplace_back();
    large.target = {i, GroupTarget::Base::SamePath, {}};
    for (const MadePiece& piece : *made) {
      large.pieces.push_back(
          {piece.stored.size(), piece.size, piece.base_offset, piece.base_size});
      sink(piece.stored);
    }
  }
}

}  // namespace

void add_contents(const PackInput& input, const PackTargets& targets, proto::PackIndex& index,
                  const std::function<void(ByteView stored)>& sink) {
  if (targets.all().empty() || targets.all().size() > kMaxTargets) return;
  const auto copies = find_copies(input, targets);
  for (const auto& [target, from] : copies) index.copies.push_back({target, from});
  std::ranges::sort(index.copies, {}, &proto::PackCopy::target);

  const std::vector<Group> groups = groups_of(targets, input.sizes, copies);
  const auto take = [&](std::vector<Made> made) {
    for (Made& one : made) {
      index.groups.push_back({one.stored.size(), std::move(one.targets)});
      sink(one.stored);
    }
  };
  // Each thread takes every n-th group, a few ahead of what has been written.
  struct Worker {
    std::unique_ptr<GroupMaker> maker;
    std::future<std::vector<Made>> result;
  };
  std::vector<Worker> workers(std::clamp<std::size_t>(input.threads, 1, 16));
  for (Worker& worker : workers) worker.maker = std::make_unique<GroupMaker>(input, targets);
  for (std::size_t i = 0; i < groups.size() + workers.size(); ++i) {
    Worker& worker = workers[i % workers.size()];
    if (worker.result.valid()) take(worker.result.get());
    if (i < groups.size())
      worker.result = std::async(std::launch::async, [maker = worker.maker.get(),
                                                      group = &groups[i]] {
        return maker->make(*group);
      });
  }
  add_large(input, targets, copies, index, sink);
}

}  // namespace mirrorbus::tree
