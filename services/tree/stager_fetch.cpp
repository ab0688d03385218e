// What a Stager asks of a source.
#include "services/tree/stager.hpp"

#include "proto/sha256.hpp"
#include "services/tree/pipeline.hpp"

#include <utility>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::Hash;

namespace {

// What has come of one that is cut off need not come again: the rest is asked for by range.
constexpr std::uint64_t kResumedBytes = 8 * 1024 * 1024;
// Larger ones are by range from the start. Nothing else is staged meanwhile.
constexpr std::uint64_t kLargeBytes = 16 * 1024 * 1024;
constexpr std::uint64_t kBatchBytes = 64 * 1024 * 1024;  // in one request

}  // namespace

// One answer of the source, or several. Small contents are hashed and written by a helper while the
// next ones come in.
class Stager::FetchSink : public ContentSink {
 public:
  FetchSink(Stager& stager, ContentSource& source)
      : stager_(stager),
        source_(source),
        pipeline_(
            kBuffered, [this](Unit& some, unsigned worker) { stage(some, worker); },
            [this](Unit& some) { collect(some); }) {}

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
    inode_ = *found;
    wanted_ = stager_.wanted(inode_);
    if (wanted_.size_bytes > kBufferBytes)
      file_.emplace(stager_.p_.staging, wanted_,
                    wanted_.size_bytes > kResumedBytes && !stager_.p_.staging.has_part(hash));
    else
      buffer_.emplace().reserve(wanted_.size_bytes);
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
      arrived_.push_back({wanted_, std::move(*buffer_), place(), {}});
      if (arrived_bytes_ >= kUnitBytes || arrived_.size() >= kUnitFiles) pass_on();
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
  static constexpr std::size_t kUnitFiles = 64;
  static constexpr std::size_t kUnitBytes = 512 * 1024;
  static constexpr std::uint64_t kBufferBytes = 1024 * 1024;
  struct Place {
    const Bytes* directory;  // the plan's
    Entry entry;
  };
  struct Arrived {
    Wanted wanted;
    Bytes bytes;
    std::optional<Place> place;           // where it may go straight to; it is there if there is
    std::optional<std::uint32_t> number;  // no c name's number. Neither: it is not what it should be
  };
  using Unit = std::vector<Arrived>;
  void pass_on() {
    if (!arrived_.empty()) pipeline_.push(std::exchange(arrived_, {}));
    arrived_bytes_ = 0;
  }
  std::optional<Place> place() {
    if (!stager_.goes_straight(inode_)) return {};
    const Plan::NewInode& inode = stager_.p_.plan.inodes[inode_];
    return Place{&stager_.p_.plan.dirs[inode.dir].path,
                 stager_.target_node(inode.dir).entries[inode.at]};
  }
  void stage(Unit& some, unsigned worker) {
    for (Arrived& each : some) {
      const bool good = each.bytes.size() == each.wanted.size_bytes &&
                        proto::sha256(each.bytes) == each.wanted.hash;
      const bool placed = good && each.place &&
                          stager_.p_.unseen->put(*each.place->directory, each.place->entry,
                                                 each.bytes, worker);
      if (!placed) each.place.reset();
      if (good && !placed) each.number = stager_.p_.staging.put(each.wanted.hash, each.bytes);
    }
  }
  void collect(Unit& some) {
    for (const Arrived& each : some) {
      if (!each.place && !each.number)
        refuse(each.wanted.hash, proto::Reject::BadHash, "is not what was signed");
      else if (!stager_.wants(each.wanted.hash))
        continue;
      else if (each.place)
        stager_.has_come(each.wanted.hash, StagedInodes::kPlaced, 0);
      else
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
  std::uint32_t inode_ = 0;  // that it is for
  std::optional<StagedFile> file_;
  std::optional<Bytes> buffer_;
  Unit arrived_;  // not passed on yet
  std::size_t arrived_bytes_ = 0;
  Pipeline<Unit> pipeline_;
};

void Stager::fetch(ContentSource& source) {
  progress_.phase = Phase::Fetching;
  report();
  // What was cut off, bad or unanswered is asked for once more, and of every further place.
  for (std::size_t round = 0; round <= source.places() && !wanted_.empty(); ++round) {
    std::vector<std::uint32_t> small;
    for (const std::uint32_t number : wanted_numbers()) {
      if (by_range(wanted(number)))
        fetch_large(source, wanted(number));
      else
        small.push_back(number);
    }
    fetch_small(source, small);
  }
  progress_.phase = Phase::Staging;
}

bool Stager::by_range(const Wanted& wanted) const {
  return wanted.size_bytes > kLargeBytes ||
         (wanted.size_bytes > kResumedBytes && p_.staging.has_part(wanted.hash));
}

void Stager::fetch_small(ContentSource& source, const std::vector<std::uint32_t>& numbers) {
  std::vector<Wanted> batch;
  // Of all batches: while the next is asked for the last contents of this one are being staged.
  FetchSink sink(*this, source);
  try {
    for (std::size_t from = 0; from < numbers.size(); from += batch.size()) {
      batch.clear();
      for (std::uint64_t bytes = 0; from + batch.size() < numbers.size() &&
                                    batch.size() < ContentSource::kBatch && bytes < kBatchBytes;) {
        batch.push_back(wanted(numbers[from + batch.size()]));
        bytes += batch.back().size_bytes;
      }
      source.fetch_objects(batch, sink);
    }
  } catch (...) {
    sink.finish();  // what has come whole need not come again
    throw;
  }
  sink.finish();
  report();
}

void Stager::fetch_large(ContentSource& source, const Wanted& wanted) {
  FetchSink sink(*this, source);
  const std::uint64_t offset = sink.resume(wanted);
  if (offset == wanted.size_bytes)
    sink.end();  // all of it had come
  else
    source.fetch_range(wanted, offset, sink);
}

}  // namespace mirrorbus::tree
