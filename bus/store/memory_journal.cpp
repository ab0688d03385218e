#include "bus/store/memory_journal.hpp"

#include "bus/store/row_filter.hpp"

#include <algorithm>

namespace mirrorbus::store {

void MemoryJournal::drop_oldest() {
  const JournalRow& row = rows_.front();
  for (const SubmissionRecord& submission : row.submissions)
    submissions_.erase({submission.sender, submission.n});
  bytes_ -= row.bytes.size();
  tail_.oldest_seq = row.last_seq + 1;
  rows_.pop_front();
}

void MemoryJournal::append(std::span<const JournalRow> rows) {
  const std::lock_guard lock(mutex_);
  for (const JournalRow& row : rows) {
    if (rows_.empty()) tail_.oldest_seq = row.first_seq;
    rows_.push_back(row);
    bytes_ += row.bytes.size();
    for (const SubmissionRecord& submission : row.submissions)
      submissions_.emplace(std::pair(submission.sender, submission.n), submission.seq);
    tail_.epoch = row.epoch;
    tail_.number = row.number;
    tail_.last_seq = row.last_seq;
    tail_.header = row.header;
    while (bytes_ > max_bytes_ && rows_.size() > 1) drop_oldest();
  }
}

void MemoryJournal::put_credential(const proto::Credential& credential,
                                   const proto::SealedCredential& sealed) {
  const std::lock_guard lock(mutex_);
  credentials_.emplace(std::pair(credential.epoch, credential.serial), sealed);
}

std::uint64_t MemoryJournal::begin_epoch(std::uint64_t at_least) {
  const std::lock_guard lock(mutex_);
  return epoch_ = std::max(epoch_ + 1, at_least);
}

bool MemoryJournal::prune(std::uint64_t before_ns, std::uint64_t max_bytes) {
  const std::lock_guard lock(mutex_);
  while (rows_.size() > 1 && (rows_.front().time_ns < before_ns || bytes_ > max_bytes)) drop_oldest();
  return false;
}

Tail MemoryJournal::tail() {
  const std::lock_guard lock(mutex_);
  return tail_;
}

ReadResult MemoryJournal::read(const ReadRequest& request) {
  const std::lock_guard lock(mutex_);
  ReadResult result;
  result.through = request.to;
  std::size_t scanned = 0, taken = 0;
  auto row = std::ranges::lower_bound(rows_, request.from, {}, &JournalRow::last_seq);
  for (; row != rows_.end() && row->first_seq <= request.to; ++row) {
    if (scanned > 0 && (taken + row->bytes.size() > request.max_bytes || scanned > request.max_scan_bytes)) {
      result.through = row->first_seq - 1;
      result.more = true;
      break;
    }
    scanned += row->bytes.size();
    if (!row_has_prefix(row->bytes, request.prefix)) continue;
    taken += row->bytes.size();
    result.rows.push_back(row->bytes);
  }
  return result;
}

std::uint64_t MemoryJournal::seq_before(std::uint64_t time_ns) {
  const std::lock_guard lock(mutex_);
  for (const JournalRow& row : rows_)
    if (row.time_ns >= time_ns) return row.first_seq - 1;
  return tail_.last_seq;
}

std::optional<proto::SealedCredential> MemoryJournal::credential(const proto::Hash& id) {
  const std::lock_guard lock(mutex_);
  for (const auto& [key, sealed] : credentials_)
    if (proto::credential_id(sealed.document) == id) return sealed;
  return std::nullopt;
}

std::vector<proto::SealedCredential> MemoryJournal::listed(std::uint64_t before_epoch,
                                                           std::size_t limit, bool firsts) {
  const std::lock_guard lock(mutex_);
  std::vector<proto::SealedCredential> found;
  for (auto it = credentials_.rbegin(); it != credentials_.rend() && found.size() < limit; ++it)
    if (it->first.first < before_epoch && (!firsts || it->first.second == 0))
      found.push_back(it->second);
  return found;
}

std::vector<proto::SealedCredential> MemoryJournal::credentials(std::uint64_t before_epoch,
                                                                std::size_t limit) {
  return listed(before_epoch, limit, false);
}

std::vector<proto::SealedCredential> MemoryJournal::first_credentials_before(
    std::uint64_t before_epoch, std::size_t limit) {
  return listed(before_epoch, limit, true);
}

std::vector<proto::SealedCredential> MemoryJournal::first_credentials_after(
    std::uint64_t after_epoch, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  std::vector<proto::SealedCredential> found;
  for (auto it = credentials_.upper_bound({after_epoch, UINT32_MAX});
       it != credentials_.end() && found.size() < limit; ++it)
    if (it->first.second == 0) found.push_back(it->second);
  return found;
}

std::optional<std::uint64_t> MemoryJournal::submission(proto::ByteView sender, std::uint64_t n) {
  const std::lock_guard lock(mutex_);
  const auto it = submissions_.find({proto::Bytes(sender), n});
  if (it == submissions_.end()) return std::nullopt;
  return it->second;
}

}  // namespace mirrorbus::store
