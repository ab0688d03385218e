#include "services/tree/stager.hpp"

#include "proto/sha256.hpp"
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

constexpr std::uint64_t kLargeBytes = 8 * 1024 * 1024;   // asked for by range
constexpr std::uint64_t kBatchBytes = 64 * 1024 * 1024;  // in one request
constexpr std::size_t kDressed = 128;                    // inodes to a unit of work
constexpr std::size_t kDepth = 16;                       // units

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
    if (inode.source == Plan::Source::Same) continue;  // when the first one is there
    const bool in_tree = inode.source == Plan::Source::Take || inode.source == Plan::Source::Copy;
    if (in_tree && copy_from_tree(number)) continue;
    inode.source = Plan::Source::Fetch;
    const auto [first, is_new] = wanted_.insert(number);
    if (!is_new) {
      inode.source = Plan::Source::Same;
      inode.from = *first;
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

void Stager::take(const Hash& content, std::uint32_t number) {
  const auto found = wanted_.find(content);
  assert(found != wanted_.end());
  staged_.set(*found, 'c', number);
  progress_.bytes += p_.plan.inodes[*found].size;
  early_sync_.written(p_.plan.inodes[*found].size);
  ++progress_.files;
  wanted_.erase(found);
  report();
}

// One answer of the source, or several. Small contents are hashed and written by a helper while the
// next ones come in.
class Stager::FetchSink : public ContentSink {
 public:
  FetchSink(Stager& stager, ContentSource& source)
      : stager_(stager),
        source_(source),
        pipeline_(
            kBuffered, [this](std::vector<Arrived>& some, unsigned) { stage(some); },
            [this](std::vector<Arrived>& some) { collect(some); }) {}

  // A large file, and what is there of it.
  std::uint64_t resume(const Wanted& wanted) {
    resumed_ = wanted_ = wanted;
    file_.emplace(stager_.p_.staging, wanted, true);
    return file_->offset();
  }
  // What has come whole is staged. Call also when the source failed.
  void finish() {
    pass_on();
    pipeline_.finish();
  }

  void begin(const Hash& hash) override {
    if (resumed_) {
      if (hash != wanted_.hash) file_.reset();
      return;
    }
    drop();
    const auto found = stager_.wanted_.find(hash);
    if (found == stager_.wanted_.end()) return;  // unasked, or a second time
    wanted_ = stager_.wanted(*found);
    if (wanted_.size_bytes > kBufferBytes)
      file_.emplace(stager_.p_.staging, wanted_);
    else
      buffer_.emplace();
  }
  void write(ByteView bytes) override {
    stager_.p_.control.check();
    if (file_ && !file_->write(bytes)) return refuse(wanted_.hash, proto::Reject::TooLarge, "is larger than signed");
    if (!buffer_) return;
    if (bytes.size() > wanted_.size_bytes - buffer_->size())
      return refuse(wanted_.hash, proto::Reject::TooLarge, "is larger than signed");
    *buffer_ += bytes;
  }
  void end() override {
    if (buffer_) {
      arrived_bytes_ += buffer_->size();
      arrived_.push_back({wanted_, std::move(*buffer_), {}});
      if (arrived_bytes_ >= kUnitBytes || arrived_.size() >= kUnit) pass_on();
    } else if (file_) {
      if (const auto number = file_->finish())
        stager_.take(wanted_.hash, *number);
      else
        refuse(wanted_.hash, proto::Reject::BadHash, "is not what was signed");
    }
    drop();
  }
  void gone(const Hash& hash, const std::string& reason) override {
    stager_.reasons_[hash] = source_.name() + ": " + reason;
  }

 private:
  static constexpr std::size_t kBuffered = 16;  // units
  static constexpr std::size_t kUnit = 64;      // contents
  static constexpr std::size_t kUnitBytes = 512 * 1024;
  static constexpr std::uint64_t kBufferBytes = 1024 * 1024;
  struct Arrived {
    Wanted wanted;
    Bytes bytes;
    std::optional<std::uint32_t> number;  // of its c name, if it is what it should be
  };
  void pass_on() {
    if (!arrived_.empty()) pipeline_.push(std::exchange(arrived_, {}));
    arrived_bytes_ = 0;
  }
  void stage(std::vector<Arrived>& some) {
    for (Arrived& each : some)
      if (each.bytes.size() == each.wanted.size_bytes &&
          proto::sha256(each.bytes) == each.wanted.hash)
        each.number = stager_.p_.staging.put(each.wanted.hash, each.bytes);
  }
  void collect(std::vector<Arrived>& some) {
    for (const Arrived& each : some) {
      if (!each.number)
        refuse(each.wanted.hash, proto::Reject::BadHash, "is not what was signed");
      else if (stager_.wants(each.wanted.hash))
        stager_.take(each.wanted.hash, *each.number);
    }
  }
  void refuse(const Hash& hash, proto::Reject why, const std::string& what) {
    drop();
    source_.bad(hash, why, what);
    stager_.reasons_[hash] = source_.name() + ": what came " + what;
  }
  void drop() {
    file_.reset();
    buffer_.reset();
  }

  Stager& stager_;
  ContentSource& source_;
  std::optional<Wanted> resumed_;
  Wanted wanted_;
  std::optional<StagedFile> file_;
  std::optional<Bytes> buffer_;
  std::vector<Arrived> arrived_;  // not passed on yet
  std::size_t arrived_bytes_ = 0;
  Pipeline<std::vector<Arrived>> pipeline_;
};

void Stager::fetch(ContentSource& source) {
  progress_.phase = Phase::Fetching;
  report();
  // What was cut off, bad or unanswered is asked for once more, and of every further place.
  for (std::size_t round = 0; round <= source.places() && !wanted_.empty(); ++round) {
    std::vector<std::uint32_t> small;
    for (const std::uint32_t number : wanted_numbers()) {
      if (p_.plan.inodes[number].size > kLargeBytes)
        fetch_large(source, wanted(number));
      else
        small.push_back(number);
    }
    fetch_small(source, small);
  }
  progress_.phase = Phase::Staging;
}

void Stager::fetch_small(ContentSource& source, const std::vector<std::uint32_t>& numbers) {
  std::vector<Wanted> batch;
  for (std::size_t from = 0; from < numbers.size(); from += batch.size()) {
    batch.clear();
    for (std::uint64_t bytes = 0; from + batch.size() < numbers.size() &&
                                  batch.size() < ContentSource::kBatch && bytes < kBatchBytes;) {
      batch.push_back(wanted(numbers[from + batch.size()]));
      bytes += batch.back().size_bytes;
    }
    FetchSink sink(*this, source);
    try {
      source.fetch_objects(batch, sink);
    } catch (...) {
      sink.finish();  // what has come whole need not come again
      throw;
    }
    sink.finish();
    report();
  }
}

void Stager::fetch_large(ContentSource& source, const Wanted& wanted) {
  FetchSink sink(*this, source);
  const std::uint64_t offset = sink.resume(wanted);
  if (offset == wanted.size_bytes)
    sink.end();  // all of it had come
  else
    source.fetch_range(wanted, offset, sink);
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
    if (!staged_.ready(number) || staged_.is_link(number)) continue;
    const Plan::NewInode& inode = p_.plan.inodes[number];
    some.push_back({staged_.name(p_.plan, number), target_node(inode.dir).entries[inode.at]});
    if (some.size() == kDressed) pipeline.push(std::exchange(some, {}));
  }
  if (!some.empty()) pipeline.push(std::move(some));
  pipeline.finish();
}

void Stager::dress(const std::vector<Undressed>& some) const {
  for (const auto& [name, entry] : some) {
    const auto st = p_.staging.ops().look(p_.staging.dir(), name);
    if (!st) throw std::runtime_error("a staged file has vanished: " + name);
    // A new file has none, or the check finds what it inherited.
    const auto xattrs =
        entry.xattrs ? MetadataPolicy::Xattrs::Unknown : MetadataPolicy::Xattrs::Known;
    p_.policy.bring(p_.staging.ops(), p_.staging.dir(), name, *st, entry, xattrs);
  }
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
