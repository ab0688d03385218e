#include "bus/peer/subscriber_core.hpp"

#include "proto/event.hpp"
#include "proto/sealed_event.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr std::size_t kMaxStreams = 4096;

}  // namespace

SubscriberCore::SubscriberCore(SubscriberOptions options, trust::Policy policy,
                               store::Cursors cursors, SubscriberActions& actions)
    : subscription_(std::move(options), actions),
      intake_(std::move(policy), subscription_),
      order_(subscription_, intake_.book()),
      catch_up_(subscription_, intake_, order_),
      resume_(std::move(cursors)) {}

std::optional<proto::Reject> SubscriberCore::frame(proto::ByteView bytes, SourceId source,
                                                   base::Now now) {
  const bool is_control = !bytes.empty() && bytes.front() == proto::kControl;
  const Refusal why = is_control ? control(bytes, source, now) : event(bytes, source, now);
  if (why) subscription_.count(*why);
  return why;
}

SubscriberCore::Refusal SubscriberCore::control(proto::ByteView bytes, SourceId source,
                                                base::Now now) {
  const auto frame = proto::decode_control(bytes);
  if (!frame) return frame.error();
  if (frame->kind == proto::ControlKind::Credential)
    return intake_.offer(frame->payload, CredentialBook::Came::Announced, source, now);
  const auto verified = intake_.verified_head(*frame, source, now);
  return verified ? head(*verified, now) : Refusal(verified.error());
}

void SubscriberCore::answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                              SourceId source, base::Now now) {
  if (!catch_up_.answered(question, answer, source, now))
    intake_.answered(question, answer, source, now);
}

void SubscriberCore::tick(base::Now now) {
  for (auto& [id, stream] : streams_) catch_up_.tick(*stream, now);
}

// ---- streams and their credentials ----

SubscribedStream* SubscriberCore::find_stream(const proto::Hash& id) const {
  const auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : it->second.get();
}

std::optional<proto::Reject> SubscriberCore::judged(
    const proto::Hash& credential, const proto::Decoded<CredentialVerdict>& verdict,
    base::Now now) {
  const auto known = intake_.judged(credential, verdict, now);
  if (!known) return known.error();
  installed(**known, now);
  if (SubscribedStream* stream = find_stream((*known)->stream); stream && stream->tracker)
    catch_up_.try_again(*stream, now);
  // Who has just connected need not wait for the next beat.
  if (const proto::Bytes early = std::exchange((*known)->early_head, {}); !early.empty()) {
    const auto verified = intake_.verified_head(
        {proto::ControlKind::Head, (*known)->stream, early}, (*known)->early_source, now);
    if (const Refusal why = verified ? head(*verified, now) : Refusal(verified.error()))
      subscription_.count(*why);
  }
  return std::nullopt;
}

SubscribedStream* SubscriberCore::add_stream(const KnownCredential& known) {
  if (streams_.size() >= kMaxStreams) return nullptr;
  auto& stream = streams_[known.stream];
  stream = std::make_unique<SubscribedStream>(known.credential.stream, known.stream);
  if (const auto cursor = resume_.find(known.stream); cursor != resume_.end()) {
    stream->tracker.emplace(cursor->second.position, cursor->second.proven);
    // Where epochs ended in between is learnt again, by walking from the position's own.
    stream->earliest = cursor->second.position_epoch;
    stream->epoch = stream->earliest != 0 ? stream->earliest : cursor->second.epoch;
    stream->ratchet_epoch = cursor->second.epoch;
    stream->ratchet_beat = cursor->second.beat;
    if (stream->epoch == stream->ratchet_epoch) stream->serial = cursor->second.serial;
  }
  stream->whole = subscription_.prefix.empty();
  return stream.get();
}

void SubscriberCore::installed(KnownCredential& known, base::Now now) {
  const proto::Credential& credential = known.credential;
  SubscribedStream* stream = find_stream(known.stream);
  if (!stream) stream = add_stream(known);
  if (!stream) return;
  if (credential.epoch < stream->epoch) return;  // for history only
  // While epochs are still being walked the newest one is ahead of the stream's own.
  if (const KnownCredential* newest = intake_.book().find(stream->newest);
      !newest || std::pair(newest->credential.epoch, newest->credential.serial) <
                     std::pair(credential.epoch, credential.serial))
    stream->newest = known.id;
  if (credential.epoch == stream->epoch) return;
  if (stream->tracker && stream->epoch != 0)
    return catch_up_.new_epoch(*stream, credential, now);
  // Nothing was consumed of an earlier epoch. But its batches may have been heard, which are others
  // than those with the same numbers in this one; and where to join was asked by its heads.
  stream->begin_epoch(credential.epoch, credential.serial);
  stream->locating = false;
}

// ---- events ----

SubscriberCore::Refusal SubscriberCore::event(proto::ByteView bytes, SourceId source,
                                              base::Now now) {
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame) return frame.error();
  if (!last_stream_ || last_stream_->sealed_header != frame->sealed_header) {
    const auto opened = open_batch(*frame, source, now);
    if (!opened) return opened.error();
    last_stream_ = *opened;
  }
  SubscribedStream& stream = *last_stream_;
  // The sealer can have been revoked, or dropped, since its header was checked.
  if (stream.sealer->state != KnownCredential::State::Good) {
    stream.sealed_header.clear();
    return stream.sealer->why;
  }
  if (intake_.cut(source, stream.id, now)) return proto::Reject::SourceCut;
  const auto event = proto::decode_event(frame->event);
  if (!event) return event.error();
  if (event->seq < stream.header.first_seq || event->seq > stream.header.last_seq())
    return proto::Reject::BadIndex;
  if (!stream.merkle.verify(proto::event_leaf(frame->topic, frame->event),
                            event->seq - stream.header.first_seq, frame->path))
    return intake_.disproved(proto::Reject::BadPath, source, stream.id, now);
  // From here on it is the publisher's own word, whatever it says.
  take(stream, *frame, *event, bytes, now);
  return std::nullopt;
}

proto::Decoded<SubscribedStream*> SubscriberCore::open_batch(const proto::EventFrame& frame,
                                                             SourceId source, base::Now now) {
  const auto header = proto::decode_header(frame.header());
  if (!header) return proto::refuse(header.error());
  KnownCredential* known = intake_.book().find(header->credential);
  if (!known || known->state == KnownCredential::State::Checking) {
    if (!known) intake_.fetch(header->credential, {}, now);
    return proto::refuse(proto::Reject::UnknownCredential);
  }
  if (known->state == KnownCredential::State::Refused) return proto::refuse(known->why);
  SubscribedStream* stream = find_stream(known->stream);
  if (!stream) return proto::refuse(proto::Reject::WrongStream);
  if (stream->sealed_header != frame.sealed_header)
    if (const Refusal why = new_header(*stream, *known, frame, *header, source, now))
      return proto::refuse(*why);
  return stream;
}

SubscriberCore::Refusal SubscriberCore::new_header(SubscribedStream& stream,
                                                   KnownCredential& known,
                                                   const proto::EventFrame& frame,
                                                   const proto::BatchHeader& header,
                                                   SourceId source, base::Now now) {
  if (header.epoch != known.credential.epoch) return proto::Reject::BadField;
  if (header.epoch < stream.epoch) return proto::Reject::EpochRollback;
  if (stream.equivocated) return proto::Reject::Equivocation;
  const bool current = header.epoch == stream.epoch;
  const std::uint32_t serial = known.credential.serial;
  if (current && serial < stream.serial && header.number >= stream.serial_from)
    return proto::Reject::Superseded;
  if (intake_.cut(source, stream.id, now)) return proto::Reject::SourceCut;
  const auto good = intake_.book().check_seal(header.credential, header.time_ns, frame.header(),
                                              frame.seal(), true, now);
  if (!good) return intake_.disproved(good.error(), source, stream.id, now);
  if (current) {
    const proto::Hash hash = proto::header_hash(frame.header());
    if (stream.headers.contradict(header.number, hash)) {
      stream.equivocated = true;
      return proto::Reject::Equivocation;
    }
    if (stream.headers.break_chain(header)) return proto::Reject::BadChain;
    stream.headers.add(header, hash);
    if (serial > stream.serial) {
      stream.serial = serial;
      stream.serial_from = header.number;
    }
  }
  stream.sealed_header = frame.sealed_header;
  stream.header = header;
  stream.merkle = proto::MerkleVerifier(header.root, header.count);
  stream.sealer = intake_.book().share(known.id);
  return std::nullopt;
}

void SubscriberCore::take(SubscribedStream& stream, const proto::EventFrame& frame,
                          const proto::EventView& event, proto::ByteView bytes, base::Now now) {
  if (!proto::is_under(frame.topic, subscription_.prefix)) return;
  if (!stream.tracker) return;  // joining: before the start
  GapTracker& tracker = *stream.tracker;
  const std::uint64_t previous = event.previous(subscription_.prefix_depth);
  const bool exact = event.exact_at(subscription_.prefix_depth);
  if (stream.header.epoch == stream.epoch) {
    order_.learn_of(stream, event.seq);
    if (exact) order_.learn_of(stream, previous);
  }
  if (tracker.seen(event.seq)) {
    ++subscription_.counts.duplicates;
    return;
  }
  stream.whole |= event.base_segments >= subscription_.prefix_depth;
  if (tracker.in_order(previous) && stream.header.epoch == stream.epoch) {
    const auto sealer = stream.sealer;  // whatever the consumer does
    order_.consume(stream, event.seq, event.time_ns, *sealer, frame.topic, event.body, bytes);
    if (tracker.held() > 0) order_.drain(stream);
    return;
  }
  tracker.hold(event.seq, {stream.header.epoch, previous, exact, event.time_ns, stream.sealer->id,
                           std::string(frame.topic), proto::Bytes(event.body)});
  catch_up_.pursue(stream, now);
}

std::optional<proto::Reject> SubscriberCore::offer(proto::ByteView sealed, SourceId source,
                                                   base::Now now) {
  const Refusal why = intake_.offer(sealed, CredentialBook::Came::Asked, source, now);
  if (why) subscription_.count(*why);
  return why;
}

proto::Decoded<SubscriberCore::Inspected> SubscriberCore::inspect(
    proto::ByteView bytes, const std::optional<proto::Hash>& stream, base::Now now) {
  const auto sealed = proto::decode_sealed_event(bytes);
  if (!sealed) return proto::refuse(sealed.error());
  const auto& [frame, header, event] = *sealed;
  CredentialBook& book = intake_.book();
  if (stream && !book.find(header.credential)) intake_.fetch(header.credential, *stream, now);
  const auto known = book.check_seal(header.credential, header.time_ns, frame.header(),
                                     frame.seal(), false, now);
  if (!known) return proto::refuse(known.error());
  if (stream && (*known)->stream != *stream) return proto::refuse(proto::Reject::WrongStream);
  if (const auto in_batch = proto::check_in_batch(*sealed); !in_batch)
    return proto::refuse(in_batch.error());
  if (const auto why = book.denies(**known, frame.topic)) return proto::refuse(*why);
  return Inspected{(*known)->stream, (*known)->credential.stream, header.epoch,
                   event.seq,        std::string(frame.topic),    proto::Bytes(event.body)};
}

// ---- heads ----

SubscriberCore::Refusal SubscriberCore::head(const proto::Head& head, base::Now now) {
  const base::Duration off = std::chrono::abs(base::from_ns(head.time_ns) - now.wall);
  const bool clock = off > CredentialBook::kSkew;
  if (!clock) subscription_.actions.head_heard(head);
  SubscribedStream* found = find_stream(head.stream);
  if (!found) return proto::Reject::WrongStream;
  SubscribedStream& stream = *found;
  if (head.epoch < std::max(stream.epoch, stream.ratchet_epoch))
    return proto::Reject::EpochRollback;
  if ((head.epoch == stream.epoch && head.beat <= stream.beat) ||
      (head.epoch == stream.ratchet_epoch && head.beat <= stream.ratchet_beat))
    return proto::Reject::StaleHead;
  stream.clock = clock;
  if (clock) return proto::Reject::ClockSkew;
  if (head.epoch > stream.epoch) return std::nullopt;  // still walking to it
  if (stream.headers.contradict(head.batch, head.header)) {
    stream.equivocated = true;
    return proto::Reject::Equivocation;
  }
  ++subscription_.counts.heads;
  stream.beat = head.beat;
  stream.head_at = now.mono;
  stream.promise = std::max<base::Duration>(std::chrono::milliseconds(head.next_ms),
                                            std::chrono::milliseconds(10));
  stream.head_last = head.last;
  stream.head_oldest = head.oldest;
  if (!stream.tracker) join(stream, head, now);
  if (stream.tracker) follow(stream, head, now);
  return std::nullopt;
}

// As far as the head says that there is something under the prefix.
void SubscriberCore::follow(SubscribedStream& stream, const proto::Head& head, base::Now now) {
  const std::string& prefix = subscription_.prefix;
  GapTracker& tracker = *stream.tracker;
  std::uint64_t last = 0;
  for (const proto::Head::Pair& pair : head.pairs) {
    const bool ours = proto::is_under(pair.prefix, prefix);
    if (ours) stream.signed_last = std::max(stream.signed_last, pair.last);
    if (ours || proto::is_under(prefix, pair.prefix)) last = std::max(last, pair.last);
  }
  order_.learn_of(stream, stream.signed_last);
  if (tracker.position() < head.since)
    tracker.want(head.last);
  else if (last > tracker.position())
    tracker.want(last);
  else if (tracker.proven() < head.since)
    tracker.believe(head.last);
  else
    tracker.advance(head.last);
  order_.drain(stream);
  catch_up_.pursue(stream, now);
}

void SubscriberCore::join(SubscribedStream& stream, const proto::Head& head, base::Now now) {
  const Start& start = subscription_.options.start;
  const std::uint64_t oldest = head.oldest > 0 ? head.oldest - 1 : 0;
  if (std::holds_alternative<StartOldest>(start)) {
    stream.tracker.emplace(std::min(oldest, head.last));
  } else if (const auto* at = std::get_if<StartSeq>(&start);
             at && at->publisher == stream.name.publisher) {
    stream.tracker.emplace(std::min(at->seq > 0 ? at->seq - 1 : 0, head.last));
  } else if (std::holds_alternative<StartTime>(start)) {
    catch_up_.locate(stream, now);
  } else {
    stream.tracker.emplace(head.last);
    stream.earliest = head.epoch;
  }
}

// ---- what others want to know ----

store::Cursors SubscriberCore::cursors() const {
  store::Cursors cursors = resume_;
  for (const auto& [id, stream] : streams_) {
    if (!stream->tracker) continue;
    const std::uint64_t position = stream->tracker->position();
    const bool beaten = stream->epoch >= stream->ratchet_epoch && stream->beat > 0;
    cursors[id] = {std::max(stream->epoch, stream->ratchet_epoch), stream->serial,
                   beaten ? stream->beat : stream->ratchet_beat, position,
                   stream->position_epoch(), stream->tracker->proven()};
  }
  return cursors;
}

const proto::Credential* SubscriberCore::current_credential(const proto::Hash& id) const {
  const SubscribedStream* stream = find_stream(id);
  if (!stream) return nullptr;
  const KnownCredential* known = intake_.book().find(stream->newest);
  return known ? &known->credential : nullptr;
}

std::vector<StreamInfo> SubscriberCore::streams(base::Now now) const {
  std::vector<StreamInfo> infos;
  for (const auto& [id, stream] : streams_)
    infos.push_back(stream->info(intake_.book().find(stream->newest), now));
  return infos;
}

}  // namespace mirrorbus::peer
