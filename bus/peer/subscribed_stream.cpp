#include "bus/peer/subscribed_stream.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr std::size_t kRemembered = 64;  // headers, and ends of epochs
constexpr base::Duration kFirstBackoff = std::chrono::milliseconds(50);
constexpr base::Duration kMaxBackoff = std::chrono::seconds(5);

}  // namespace

std::string_view to_string(StreamState state) noexcept {
  switch (state) {
    case StreamState::Joining:
      return "joining";
    case StreamState::Current:
      return "current";
    case StreamState::Behind:
      return "behind";
    case StreamState::Stale:
      return "stale";
    case StreamState::Clock:
      return "clock";
    case StreamState::Refused:
      return "refused";
  }
  return "unknown";
}

void SeenHeaders::add(const proto::BatchHeader& header, const proto::Hash& hash) {
  by_number_[header.number] = {hash, header.last_seq()};
  if (by_number_.size() > kRemembered) by_number_.erase(by_number_.begin());
}

bool SeenHeaders::contradict(std::uint64_t number, const proto::Hash& hash) const {
  const auto it = by_number_.find(number);
  return it != by_number_.end() && it->second.hash != hash;
}

bool SeenHeaders::break_chain(const proto::BatchHeader& header) const {
  const auto before = by_number_.find(header.number - 1);
  return before != by_number_.end() && (before->second.hash != header.previous ||
                                        before->second.last_seq + 1 != header.first_seq);
}

void EpochEnds::add(std::uint64_t last, std::uint64_t epoch) {
  // Where earlier epochs seemed to go on past this end, a restored copy has cut them off.
  for (; !ends_.empty() && ends_.back().first > last; ends_.pop_back())
    epoch = ends_.back().second;
  if (ends_.empty() || ends_.back().first < last) ends_.emplace_back(last, epoch);
  if (ends_.size() > kRemembered) ends_.pop_front();
}

bool EpochEnds::add_before(std::uint64_t last, std::uint64_t epoch) {
  if (ends_.size() >= kRemembered) return false;
  if (!ends_.empty() && (last >= ends_.front().first || epoch >= ends_.front().second)) return false;
  ends_.emplace_front(last, epoch);
  return true;
}

std::uint64_t EpochEnds::epoch_of(std::uint64_t seq, std::uint64_t newest) const {
  for (const auto& [last, epoch] : ends_)
    if (seq <= last) return epoch;
  return newest;
}

std::optional<std::uint64_t> EpochEnds::end_of(std::uint64_t seq) const {
  for (const auto& [last, epoch] : ends_)
    if (seq <= last) return last;
  return {};
}

std::uint64_t EpochEnds::begun_by(std::uint64_t seq, std::uint64_t newest) const {
  return ends_.empty() || seq <= ends_.front().first ? 0 : epoch_of(seq, newest);
}

bool SubscribedStream::may_hold(std::uint64_t seq, std::uint64_t its_epoch) const {
  return its_epoch >= std::max(earliest, ends.begun_by(seq, epoch)) && its_epoch <= epoch_of(seq);
}

std::uint64_t SubscribedStream::position_epoch() const {
  const std::uint64_t next = tracker->position() + 1, its_epoch = epoch_of(next);
  return std::max(earliest, ends.begun_by(next, epoch)) == its_epoch ? its_epoch : 0;
}

bool SubscribedStream::trace_epochs(const CredentialBook& book) {
  while (position_epoch() == 0) {
    const std::uint64_t its = ends.first(epoch);
    const proto::Credential* first = book.first_of(id, its);
    if (!first) return false;
    traces = 0;
    if (first->new_journal || first->pin.last_seq <= tracker->position()) {
      earliest = std::max(earliest, its);
      return position_epoch() != 0;
    }
    if (!ends.add_before(first->pin.last_seq, first->pin.epoch)) return false;
  }
  return true;
}

void SubscribedStream::begin_epoch(std::uint64_t number, std::uint32_t first_serial) {
  epoch = number;
  serial = first_serial;
  serial_from = 0;
  beat = 0;
  headers.clear();
  equivocated = false;
  sealed_header.clear();
  signed_last = 0;
  unread_to = 0;
  progressed();
}

void SubscribedStream::progressed() {
  stuck_since.reset();
  waited_longer = false;
}

void SubscribedStream::failed(std::uint32_t after_ms, base::Now now) {
  ++attempt;
  const base::Duration pause = kFirstBackoff * (1u << std::min(attempt, 7u));
  not_before = now.mono + std::max<base::Duration>(std::min(pause, kMaxBackoff),
                                                   std::chrono::milliseconds(after_ms));
}

StreamInfo SubscribedStream::info(const KnownCredential* newest_credential, base::Now now) const {
  StreamInfo info{name, id, StreamState::Current, epoch, 0, 0, head_last, {}};
  if (head_at) info.head_age = now.mono - *head_at;
  if (newest_credential && newest_credential->state == KnownCredential::State::Refused)
    info.state = StreamState::Refused;
  else if (!tracker)
    info.state = StreamState::Joining;
  else if (clock)
    info.state = StreamState::Clock;
  else if (!head_at || info.head_age > 3 * promise)
    info.state = StreamState::Stale;
  else if (tracker->behind())
    info.state = StreamState::Behind;
  if (tracker) {
    info.position = tracker->position();
    info.wanted = tracker->wanted();
  }
  return info;
}

}  // namespace mirrorbus::peer
