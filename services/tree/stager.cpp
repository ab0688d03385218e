#include "services/tree/stager.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/pipeline.hpp"

#include <algorithm>
#include <cassert>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;
using proto::Node;

namespace {

constexpr std::size_t kDressed = 128;  // inodes to a unit of work
constexpr std::size_t kDepth = 16;     // units
constexpr std::uint64_t kOverhead = 4096;  // of a file on disk: its inode, its last block

}  // namespace

Bytes StagedInodes::name(const Plan& plan, std::uint32_t inode) const {
  const At at = at_[inode];
  const Hash& content = plan.inodes[inode].content;
  if (at.letter == 'c') return Staging::content_name(content, at.number);
  if (at.letter == 'l') return Staging::link_name(content, at.number);
  return Staging::other_name(at.number);
}

Stager::Stager(const Parts& parts)
    : p_(parts),
      staged_(parts.plan.inodes.size()),
      wanted_(0, ByContent{&parts.plan}, ByContent{&parts.plan}),
      early_sync_(parts.staging.dir()) {
  progress_.phase = Phase::Staging;
  progress_.files_total = parts.plan.inodes.size();
  progress_.bytes_total = parts.plan.bytes_to_write();
}

void Stager::report() {
  p_.control.check();
  p_.control.report(progress_);
}

const OldDirectory& Stager::old_directory(std::uint32_t dir) {
  if (!old_ || old_->first != dir) {
    auto directory = p_.live.again(p_.plan.dirs[dir].path);
    old_.emplace(dir, directory ? std::move(*directory) : OldDirectory{});
  }
  return old_->second;
}

const Node& Stager::target_node(std::uint32_t dir) {
  if (!target_ || target_->first != dir) target_.emplace(dir, p_.nodes.node(p_.plan.dirs[dir].id));
  return target_->second;
}

void Stager::from_the_tree() {
  for (std::uint32_t number = 0; number < p_.plan.inodes.size(); ++number) {
    Plan::NewInode& inode = p_.plan.inodes[number];
    if (number % 256 == 0) report();
    ++progress_.files;
    if (inode.source == Plan::Source::Make) {
      make(number);
      continue;
    }
    if (inode.source == Plan::Source::Take && take_link(number)) continue;
    if (const auto left = p_.staging.claim({inode.content, inode.size})) {
      staged_.set(number, 'c', *left);
      progress_.bytes += inode.size;
      continue;
    }
    if (inode.source == Plan::Source::Same) {  // when the first one is there
      copied_.insert(inode.from);
      continue;
    }
    const bool in_tree = inode.source == Plan::Source::Take || inode.source == Plan::Source::Copy;
    if (in_tree && copy_from_tree(number)) continue;
    inode.source = Plan::Source::Fetch;
    const auto [first, is_new] = wanted_.insert(number);
    if (!is_new) {
      inode.source = Plan::Source::Same;
      inode.from = *first;
      copied_.insert(*first);
    }
    --progress_.files;
  }
}

// A link to an inode that is going away, if it is still what the index knows.
bool Stager::take_link(std::uint32_t number) {
  const Plan::NewInode& inode = p_.plan.inodes[number];
  const OldDirectory& old = old_directory(inode.from);
  if (inode.from_at >= old.node.entries.size()) return false;
  const Bytes& name = old.node.entries[inode.from_at].name;
  const std::uint32_t as = p_.staging.next_number();
  const Bytes staged = Staging::link_name(inode.content, as);
  const EntryOps& ops = p_.staging.ops();
  try {
    const RootDir::Dir dir = p_.root.open(p_.plan.dirs[inode.from].path);
    ops.link(dir.get(), name, p_.staging.dir(), staged);
    // The link's ctime moves; what else is said of the inode must be as before.
    const auto st = ops.look(p_.staging.dir(), staged);
    EntryStat now = st ? EntryStat::of(*st) : EntryStat{};
    const EntryStat& was = old.stats[inode.from_at];
    now.ctime_s = was.ctime_s;
    now.ctime_ns = was.ctime_ns;
    if (st && now.same_but_device(was)) {
      staged_.set(number, 'l', as);
      return true;
    }
    ops.unlink(p_.staging.dir(), staged);
  } catch (const std::system_error&) {
    // Gone, not ours to link (protected_hardlinks), too many links: a copy or the source will do.
  }
  return false;
}

bool Stager::copy_from_tree(std::uint32_t number) {
  const Plan::NewInode& inode = p_.plan.inodes[number];
  const OldDirectory& old = old_directory(inode.from);
  if (inode.from_at >= old.node.entries.size()) return false;
  const Bytes& name = old.node.entries[inode.from_at].name;
  try {
    const RootDir::Dir dir = p_.root.open(p_.plan.dirs[inode.from].path);
    return copy(dir.get(), name, number);
  } catch (const std::system_error& error) {
    if (error.code().value() == ENOSPC || error.code().value() == EDQUOT) throw;
    return false;
  }
}

// By reflink where the filesystem can; hashed either way, for it is about to be vouched for.
bool Stager::copy(int from, const Bytes& name, std::uint32_t number) {
  const Plan::NewInode& inode = p_.plan.inodes[number];
  StagedFile file(p_.staging, {inode.content, inode.size});
  const auto open = open_file(from, name);
  if (!open || static_cast<std::uint64_t>(open->st.st_size) != inode.size) return false;
  if (!file.clone(open->fd.get())) {
    bool fits = true;
    const auto read =
        read_file(from, name, [&](ByteView bytes) { fits = fits && file.write(bytes); });
    if (!read || !fits) return false;
  }
  const auto staged = file.finish();
  if (!staged) return false;
  staged_.set(number, 'c', *staged);
  progress_.bytes += inode.size;
  return true;
}

void Stager::make(std::uint32_t number) {
  const Plan::NewInode& inode = p_.plan.inodes[number];
  const Entry& entry = target_node(inode.dir).entries[inode.at];
  const EntryOps& ops = p_.staging.ops();
  const std::uint32_t as = p_.staging.next_number();
  const Bytes name = Staging::other_name(as);
  if (entry.type == EntryType::Symlink) {
    ops.make_symlink(entry.target, p_.staging.dir(), name);
  } else {
    const dev_t device = ::makedev(entry.major, entry.minor);
    ops.make_node(p_.staging.dir(), name, type_bits(entry.type) | 0600, device);
  }
  staged_.set(number, 'n', as);
}

// In the plan's order, which is the tree's and most likely that of the other side's disk.
std::vector<std::uint32_t> Stager::wanted_numbers() const {
  std::vector<std::uint32_t> numbers(wanted_.begin(), wanted_.end());
  std::ranges::sort(numbers);
  return numbers;
}

std::vector<Wanted> Stager::wanted() const {
  std::vector<Wanted> all;
  all.reserve(wanted_.size());
  for (const std::uint32_t number : wanted_numbers()) all.push_back(wanted(number));
  return all;
}

// Of more names than one, or what copies are made of, has to be in staging first.
bool Stager::goes_straight(std::uint32_t number) const {
  return p_.unseen && p_.plan.inodes[number].uses == 1 && !copied_.contains(number);
}

void Stager::take(const Hash& content, std::uint32_t number) {
  has_come(content, 'c', number);
}

void Stager::has_come(const Hash& content, char letter, std::uint32_t number) {
  const auto found = wanted_.find(content);
  assert(found != wanted_.end());
  staged_.set(*found, letter, number);
  progress_.bytes += p_.plan.inodes[*found].size;
  early_sync_.written(p_.plan.inodes[*found].size + kOverhead);
  ++progress_.files;
  wanted_.erase(found);
  report();
}

void Stager::finish() {
  // Before any of them is dressed: what is copied must hold still.
  for (std::uint32_t number = 0; number < p_.plan.inodes.size(); ++number) {
    const Plan::NewInode& inode = p_.plan.inodes[number];
    if (inode.source == Plan::Source::Same && !staged_.ready(number) && staged_.ready(inode.from))
      copy(p_.staging.dir(), staged_.name(p_.plan, inode.from), number);
  }
  Pipeline<std::vector<Undressed>> pipeline(
      kDepth, [this](std::vector<Undressed>& some, unsigned) { dress(some); },
      [this](std::vector<Undressed>&) { report(); });
  std::vector<Undressed> some;
  for (std::uint32_t number = 0; number < p_.plan.inodes.size(); ++number) {
    if (!staged_.ready(number) || staged_.is_link(number) || staged_.is_placed(number)) continue;
    const Plan::NewInode& inode = p_.plan.inodes[number];
    some.push_back({staged_.name(p_.plan, number), target_node(inode.dir).entries[inode.at]});
    if (some.size() == kDressed) pipeline.push(std::exchange(some, {}));
  }
  if (!some.empty()) pipeline.push(std::move(some));
  pipeline.finish();
  if (p_.unseen) early_sync_.begin();  // while it is checked
}

void Stager::dress(const std::vector<Undressed>& some) const {
  for (const auto& [name, entry] : some)
    p_.policy.dress(p_.staging.ops(), p_.staging.dir(), name, entry);
}

std::vector<MissingItem> Stager::missing() {
  std::vector<MissingItem> missing;
  const auto look = [&](const std::vector<Plan::Op>& ops) {
    for (const Plan::Op& op : ops) {
      if (staged_.ready(op.from)) continue;
      const auto why = reasons_.find(p_.plan.inodes[op.from].content);
      missing.push_back(
          {proto::join_path(p_.plan.dirs[op.dir].path, target_node(op.dir).entries[op.at].name),
           why == reasons_.end() ? "no source sent it" : why->second});
    }
  };
  look(p_.plan.place);
  look(p_.plan.place_last);
  return missing;
}

}  // namespace mirrorbus::tree
