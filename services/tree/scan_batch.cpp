// The second half of a scan: hashing what differs, and writing rows.
#include "services/tree/fs_clock.hpp"
#include "services/tree/late_links.hpp"
#include "services/tree/scan_run.hpp"

#include <algorithm>
#include <utility>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using Kind = ScanProblem::Kind;
using State = HoldResult::State;

namespace {

// Stamped while we were reading: a later change may carry the same stamp.
bool within(const timespec& t, const timespec& first, const timespec& last) {
  return !before(t, first) && !before(last, t);
}

}  // namespace

// Takes jobs until there are none.
void Scanner::Run::hash(unsigned worker) {
  Hashing& h = *hashing_;
  try {
    for (std::size_t i; !h.failed && (i = h.next++) < h.order.size();) {
      control_.check();
      Job& job = *h.order[i];
      const auto& [dir, at] = job.names.front();
      job.result = s_.store_.hold(dir->dir.get(), dir->entries[at].name, worker, job.before);
    }
  } catch (...) {
    if (!h.failed.exchange(true)) h.failure = std::current_exception();
  }
}

// What was gathered is hashed by helpers while more is gathered.
void Scanner::Run::start_hashing() {
  hashing_ = std::make_unique<Hashing>();
  Hashing& h = *hashing_;
  h.batch = std::exchange(batch_, {});
  for (Job& job : h.batch.jobs) h.order.push_back(&job);
  // Large files first, so that one thread does not end up alone with one.
  std::ranges::stable_partition(h.order, [](const Job* j) { return j->size > 4 * 1024 * 1024; });
  if (h.order.empty()) return;
  h.start = fs_now();
  const unsigned threads = std::clamp(s_.settings_.threads, 1u, ContentStore::kWorkers);
  for (unsigned i = 1; i < threads && h.order.size() >= 8; ++i)
    h.helpers.emplace_back([this, i] { hash(i); });
}

void Scanner::Run::finish_hashing() {
  if (!hashing_) return;
  hash(0);
  hashing_->helpers.clear();
  if (hashing_->failure) std::rethrow_exception(hashing_->failure);
  if (!hashing_->order.empty()) {
    const timespec end = fs_now();
    for (Job& job : hashing_->batch.jobs) take_result(job, hashing_->start, end);
  }
  for (Work& work : hashing_->batch.works) finish(work);
  hashing_.reset();
}

void Scanner::Run::take_result(Job& job, const timespec& start, const timespec& end) {
  const HoldResult& result = job.result;
  if (result.state != State::Held && result.state != State::Hashed) {
    for (const auto& [work, at] : job.names) take_failure(result, *work, at);
    return;
  }
  ++report_.files_hashed;
  report_.bytes_hashed += static_cast<std::uint64_t>(result.st.st_size);
  if (result.state == State::Hashed && s_.store_.kind() != StoreKind::None) ++report_.not_held;
  // The same content at the same path is nothing to look for elsewhere.
  const bool here = job.before && job.before->hash == result.hash;
  if (result.known && !here && has_base_ && s_.store_.kind() != StoreKind::None)
    index_.note_seen(result.hash);
  for (const auto& [work, at] : job.names) {
    Entry& entry = work->entries[at];
    EntryStat& stat = work->stats[at];
    describe(result.st, entry);
    entry.content = result.hash;
    stat = EntryStat::of(result.st);
    if (result.linked) stat.flags |= EntryStat::kHeld;
    if (result.late) s_.late_->add(work->path);
    if (within(result.st.st_mtim, start, end) || within(result.found, start, end))
      stat.flags |= EntryStat::kUncertain;
    work->notes[at].links = result.st.st_nlink - (result.linked ? 1 : 0);
    take_xattrs(*work, at, end, result.bare);
  }
}

void Scanner::Run::take_failure(const HoldResult& result, Work& work, std::size_t at) {
  Entry& entry = work.entries[at];
  Bytes path = proto::join_path(work.path, entry.name);
  if (result.state == State::Vanished || result.state == State::NotAFile) {
    problem(Kind::Vanished, std::move(path), 0);
    work.notes[at].left_out = true;
    return look_again(work.path);
  }
  const bool unstable = result.state == State::Unstable;
  problem(unstable ? Kind::Unstable : Kind::Unreadable, std::move(path), result.error);
  if (unstable) look_again(work.path);
  // As it was before, if it was a file before.
  ++report_.kept;
  const auto was = work.old ? proto::decode_node(work.old->node) : proto::Node();
  const Entry* old = was ? was->find(entry.name) : nullptr;
  if (old && old->type == EntryType::File)
    entry = *old;
  else
    work.notes[at].left_out = true;
  work.stats[at].flags |= EntryStat::kUnreadable;
}

void Scanner::Run::settle_batch() {
  finish_hashing();
  start_hashing();
  // A run over some directories looks at what it has written down before.
  if (!full_) finish_hashing();
}

void Scanner::Run::note_links(const Work& work, std::size_t at) {
  const EntryStat& stat = work.stats[at];
  const std::uint64_t links = work.notes[at].links;
  if (work.entries[at].type == EntryType::Directory) return;
  const Bytes path = proto::join_path(work.path, work.entries[at].name);
  if (any_links_ && !full_)
    for (const Inode& before : index_.hard_links().inodes_in(path))
      changed_links_.try_emplace(before, 0);
  if (links > 1) {
    index_.hard_links().set(path, {stat.dev, stat.ino});
    any_links_ = true;
    if (!full_) changed_links_[{stat.dev, stat.ino}] = links;
  } else if (any_links_ && work.old) {
    index_.hard_links().clear(path);
  }
}

void Scanner::Run::finish(Work& work) {
  DirectoryRow row;
  row.path = work.path;
  proto::NodeWriter writer(row.node);
  for (std::size_t i = 0; i < work.entries.size(); ++i) {
    if (work.notes[i].left_out) continue;
    writer.add(work.entries[i]);
    row.stats.push_back(work.stats[i]);
    if (work.notes[i].changed) note_links(work, i);
  }
  if (work.old && work.old->node == row.node) {
    if (work.old->stats != row.stats) index_.put_stats(work.path, row.stats);
  } else {
    row.id = work.old ? work.old->id : Hash{};
    index_.stage(row);
  }
  staged();
}

}  // namespace mirrorbus::tree
