#include "bus/peer/event_order.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::peer {

void EventOrder::consume(SubscribedStream& stream, std::uint64_t seq, std::uint64_t time_ns,
                         KnownCredential& known, proto::ByteView topic, proto::ByteView body,
                         proto::ByteView frame) {
  stream.tracker->advance(seq);
  stream.earliest = std::max(stream.earliest, known.credential.epoch);
  stream.progressed();
  SubscriberCounts& counts = subscription_.counts;
  const SubscriberOptions& options = subscription_.options;
  const auto* start = std::get_if<StartTime>(&options.start);
  if (start && time_ns < start->time_ns) {
    ++counts.filtered;
  } else if (!proto::matches_any(options.patterns, topic)) {
    ++counts.filtered;
  } else if (const auto why = book_.denies(known, topic)) {
    ++counts.denied;
    subscription_.count(*why);
  } else {
    const Delivery event{stream.name, stream.id, known.credential.epoch, seq, time_ns, topic, body,
                         frame};
    if (subscription_.actions.deliver(event) == Outcome::Delivered)
      ++counts.delivered;
    else
      ++counts.undecodable;
  }
}

void EventOrder::learn_of(SubscribedStream& stream, std::uint64_t seq) {
  if (stream.tracker->learn_of(seq)) subscription_.count(proto::Reject::SeqMismatch);
}

void EventOrder::drain(SubscribedStream& stream) {
  while (auto next = stream.tracker->take_ready(stream.epoch)) {
    auto& [seq, event] = *next;
    KnownCredential* known = book_.find(event.credential);
    if (!known || known->state != KnownCredential::State::Good) {
      stream.tracker->want(seq);  // revoked or forgotten since: replay judges it anew
      return;
    }
    consume(stream, seq, event.time_ns, *known, event.topic, event.body);
  }
}

void EventOrder::lost(const SubscribedStream& stream, std::uint64_t epoch, std::uint64_t from,
                      std::optional<std::uint64_t> to, GapReason reason) {
  ++subscription_.counts.gaps;
  subscription_.actions.gap({stream.name, epoch, from, to, reason});
}

void EventOrder::give_up(SubscribedStream& stream, std::uint64_t to, GapReason reason) {
  std::uint64_t from = stream.tracker->position() + 1;
  while (from <= to) {
    // A gap never spans an epoch.
    const std::uint64_t end = std::min(to, stream.ends.end_of(from).value_or(to));
    subscription_.counts.gap_events += end - from + 1;
    lost(stream, stream.epoch_of(from), from, end, reason);
    from = end + 1;
  }
  stream.tracker->advance(to);
  stream.progressed();
  stream.hole_to = stream.unread_to = 0;
  stream.attempt = 0;
  drain(stream);
}

void EventOrder::enter_epoch(SubscribedStream& stream, const proto::Credential& first) {
  GapTracker& tracker = *stream.tracker;
  const std::uint64_t position = tracker.position();
  const std::uint64_t end = first.new_journal ? 0 : first.pin.last_seq;
  if (position > end || first.new_journal) {
    // What was consumed above `end` stays consumed; what the old epoch had beyond it nobody knows.
    lost(stream, stream.epoch, position + 1, std::nullopt,
         first.new_journal ? GapReason::NewJournal : GapReason::Rewound);
    tracker.rewind(end);
    stream.ends.clear();
    stream.earliest = first.epoch;
  } else {
    stream.ends.add(end, stream.epoch);
    tracker.end_epochs_before(first.epoch, end);
    tracker.want(end);
  }
  stream.begin_epoch(first.epoch, 0);
  stream.head_last = end;
  stream.head_oldest = 0;
}

void EventOrder::skip_unknown_epochs(SubscribedStream& stream) {
  const KnownCredential* newest = book_.find(stream.newest);
  assert(newest);
  const proto::Pin& pin = newest->credential.pin;
  const std::uint64_t from = stream.tracker->position() + 1;
  lost(stream, stream.epoch_of(from), from, std::nullopt, GapReason::Unavailable);
  if (pin.epoch > stream.epoch && pin.last_seq > 0)
    lost(stream, pin.epoch, 1, pin.last_seq, GapReason::Unavailable);
  stream.tracker->rewind(pin.last_seq);
  stream.ends.clear();
  stream.earliest = stream.unknown_epoch;
  stream.begin_epoch(stream.unknown_epoch, newest->credential.serial);
  stream.unknown_epoch = 0;
  stream.lists.clear();
}

}  // namespace mirrorbus::peer
