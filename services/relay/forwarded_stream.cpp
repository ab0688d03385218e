#include "services/relay/forwarded_stream.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::relay {

using proto::Reject;

ForwardedStream::End ForwardedStream::end_of(const store::Tail& tail, std::uint32_t serial) {
  return {tail.epoch, tail.number, tail.last_seq, tail.header, serial};
}

ForwardedStream::ForwardedStream(const store::Tail& tail, std::uint32_t serial)
    : accepted_(end_of(tail, serial)), durable_(accepted_) {}

proto::ForwardAnswer ForwardedStream::how_far() const {
  return {durable_.epoch, durable_.last, durable_.header};
}

std::uint64_t ForwardedStream::newest_epoch() const {
  return begun_.empty() ? accepted_.epoch : std::max(accepted_.epoch, begun_.rbegin()->first);
}

// ---- epochs ----

std::optional<std::uint64_t> ForwardedStream::begins(const proto::Credential& credential) {
  if (credential.serial != 0 || credential.epoch <= accepted_.epoch) return std::nullopt;
  const proto::Pin pin = credential.new_journal ? proto::Pin{} : credential.pin;
  begun_[credential.epoch] = pin;
  if (begun_.size() > kMaxBegun) begun_.erase(begun_.begin());
  if (pin.last_seq >= accepted_.last) return std::nullopt;
  return pin.last_seq;
}

void ForwardedStream::cut_off(const store::Tail& tail, std::uint32_t serial) {
  accepted_ = durable_ = end_of(tail, serial);
  next_head_.reset();
  newest_head_.reset();
}

// ---- rows ----

bool ForwardedStream::may_begin_at(std::uint64_t first) const {
  return first == 1 || first <= head_oldest_;
}

proto::Decoded<ForwardedStream::Place> ForwardedStream::place(const proto::BatchHeader& header,
                                                              std::uint32_t serial) const {
  const End& end = accepted_;
  if (end.last > 0 && header.first_seq <= end.last) {
    if (header.epoch <= end.epoch) return Place::Held;
    // Only its epoch's first credential can say that the stream went back.
    return proto::refuse(begun_.contains(header.epoch) ? Reject::BadChain
                                                       : Reject::UnknownCredential);
  }
  if (header.epoch < end.epoch) return proto::refuse(Reject::EpochRollback);
  const bool next = header.first_seq == end.last + 1;
  if (header.epoch == end.epoch) {
    // Its number was given to other events.
    if (header.number <= end.number) return proto::refuse(Reject::Equivocation);
    if (serial < end.serial) return proto::refuse(Reject::Superseded);
    if (next) {
      if (header.number != end.number + 1 || header.previous != end.header)
        return proto::refuse(Reject::BadChain);
      return Place::Next;
    }
  } else {
    const auto begun = begun_.find(header.epoch);
    if (begun == begun_.end()) return proto::refuse(Reject::UnknownCredential);
    const proto::Pin& pin = begun->second;
    if (header.number == 1 &&
        (header.first_seq != pin.last_seq + 1 || header.previous != pin.header))
      return proto::refuse(Reject::BadChain);
    if (next && header.number == 1) {
      // What it goes on from must be what we have.
      if (end.last > 0 && pin.header != end.header) return proto::refuse(Reject::BadChain);
      return Place::Next;
    }
    if (next && end.last > 0) return proto::refuse(Reject::BadChain);
  }
  if (!may_begin_at(header.first_seq)) return proto::refuse(Reject::BadOrder);
  return end.last == 0 ? Place::Next : Place::AfterHole;
}

void ForwardedStream::accept(const proto::BatchHeader& header, const proto::Hash& hash,
                             std::uint32_t serial) {
  accepted_ = {header.epoch, header.number, header.last_seq(), hash, serial};
  begun_.erase(begun_.begin(), begun_.upper_bound(header.epoch));
}

void ForwardedStream::durable(const proto::BatchHeader& header, const proto::Hash& hash,
                              std::uint32_t serial) {
  durable_ = {header.epoch, header.number, header.last_seq(), hash, serial};
}

// ---- heads ----

std::optional<Reject> ForwardedStream::head(const proto::Head& head, proto::Bytes sealed,
                                            base::Now now) {
  if (std::chrono::abs(base::from_ns(head.time_ns) - now.wall) > kSkew) return Reject::ClockSkew;
  if (head.epoch < newest_epoch()) return Reject::EpochRollback;
  // Whoever hears it must be able to learn how its epoch began.
  if (head.epoch != accepted_.epoch && !begun_.contains(head.epoch))
    return Reject::UnknownCredential;
  if (std::pair(head.epoch, head.beat) <= std::pair(head_epoch_, beat_)) return Reject::StaleHead;
  if (head.epoch == accepted_.epoch && head.batch == accepted_.number &&
      head.header != accepted_.header)
    return Reject::Equivocation;
  head_epoch_ = head.epoch;
  beat_ = head.beat;
  head_oldest_ = head.oldest;
  WaitingHead waiting{head.last, now.mono, std::move(sealed)};
  if (next_head_)
    newest_head_ = std::move(waiting);
  else
    next_head_ = std::move(waiting);
  return std::nullopt;
}

std::optional<proto::Bytes> ForwardedStream::release(base::Now now) {
  if (next_head_ && newest_head_ &&
      (newest_head_->last <= durable_.last || now.mono - next_head_->since > kHeadWaits))
    next_head_ = std::exchange(newest_head_, std::nullopt);
  if (!next_head_ || next_head_->last > durable_.last) return std::nullopt;
  proto::Bytes sealed = std::move(next_head_->sealed);
  next_head_ = std::exchange(newest_head_, std::nullopt);
  return sealed;
}

}  // namespace mirrorbus::relay
