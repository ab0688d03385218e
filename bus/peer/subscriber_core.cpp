#include "bus/peer/subscriber_core.hpp"

#include "bus/trust/session_key.hpp"
#include "proto/event.hpp"
#include "proto/limits.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::peer {
namespace {

constexpr std::size_t kMaxFetching = 16;
constexpr std::size_t kMaxStreams = 4096;
constexpr std::size_t kRememberedHeaders = 64;
constexpr base::Duration kFetchPause = std::chrono::seconds(2);
constexpr base::Duration kFirstBackoff = std::chrono::milliseconds(50);
constexpr base::Duration kMaxBackoff = std::chrono::seconds(5);

std::size_t index(proto::Reject reject) { return static_cast<std::size_t>(reject); }

}  // namespace

std::string event_id(const proto::Hash& stream, std::uint64_t epoch, std::uint64_t seq) {
  return proto::to_hex(stream.view().substr(0, 8)) + "-" + std::to_string(epoch) + "-" +
         std::to_string(seq);
}

std::string_view to_string(GapReason reason) noexcept {
  switch (reason) {
    case GapReason::Retention:
      return "retention";
    case GapReason::Unavailable:
      return "unavailable";
    case GapReason::Rewound:
      return "rewound";
    case GapReason::NewJournal:
      return "new_journal";
  }
  return "unknown";
}

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

struct SubscriberCore::Stream {
  explicit Stream(proto::StreamName name_, const proto::Hash& id_)
      : name(std::move(name_)), id(id_) {}

  const proto::StreamName name;
  const proto::Hash id;
  std::optional<GapTracker> tracker;  // empty while joining
  std::uint64_t epoch = 0;            // the newest entered
  std::uint32_t serial = 0;           // the highest heard in it …
  std::uint64_t serial_from = 0;      // … and the first batch it sealed
  std::uint64_t beat = 0;
  // What was accepted before a restart: heads only go on from there.
  std::uint64_t ratchet_epoch = 0;
  std::uint64_t ratchet_beat = 0;
  proto::Hash newest;  // id of the newest good credential
  // Where earlier epochs ended, oldest first: (last seq, epoch).
  std::deque<std::pair<std::uint64_t, std::uint64_t>> ends;

  // The header of the batch that is coming in, and which of its events are proven.
  proto::Bytes sealed_header;
  proto::BatchHeader header;
  proto::MerkleVerifier merkle;
  std::shared_ptr<KnownCredential> sealer;
  // Headers seen lately, by batch number of this epoch.
  std::map<std::uint64_t, proto::Hash> headers;
  bool equivocated = false;

  // All of this stream lies under our prefix: then seqs come without holes.
  bool whole = false;
  std::uint64_t head_last = 0;
  std::uint64_t head_oldest = 0;
  // Its heads say that there is an event under our prefix with this seq.
  std::uint64_t signed_last = 0;
  std::optional<base::MonoTime> head_at;
  base::Duration promise = std::chrono::seconds(1);
  bool clock = false;

  std::uint64_t question = 0;  // the one under way; 0 = none
  std::uint64_t asked_to = 0;  // of the last replay
  std::uint32_t attempt = 0;
  base::MonoTime not_before{};               // of the next question
  std::optional<base::MonoTime> stuck_since;  // behind without progress
  std::uint64_t hole_to = 0;  // an answer skipped (position, hole_to]
  // An epoch was entered whose beginning is not known yet: (position, nobody knows).
  std::uint64_t unknown_epoch = 0;
  bool locating = false;

  std::uint64_t epoch_of(std::uint64_t seq) const {
    for (const auto& [last, ended] : ends)
      if (seq <= last) return ended;
    return epoch;
  }
};

SubscriberCore::SubscriberCore(SubscriberOptions options, trust::Policy policy,
                               store::Cursors cursors, SubscriberActions& actions)
    : options_(std::move(options)),
      prefix_(proto::common_prefix(options_.patterns)),
      prefix_depth_(proto::segment_count(prefix_)),
      book_(std::move(policy)),
      resume_(std::move(cursors)),
      actions_(actions) {}

SubscriberCore::~SubscriberCore() = default;

std::optional<proto::Reject> SubscriberCore::frame(proto::ByteView bytes, SourceId source,
                                                   base::Now now) {
  last_now_ = now;
  const bool is_control = !bytes.empty() && bytes.front() == proto::kControl;
  const Refusal why = is_control ? control(bytes, source, now) : event(bytes, source, now);
  if (why) ++counts_.refused[index(*why)];
  return why;
}

// ---- credentials and epochs ----

// Something claimed to be this stream's and is not: counted against whoever sent it.
proto::Reject SubscriberCore::disproved(proto::Reject why, SourceId source, const proto::Hash& stream,
                                        base::Now now) {
  switch (why) {
    case proto::Reject::BadSignature:
    case proto::Reject::WrongSigner:
    case proto::Reject::UnknownSigner:
    case proto::Reject::BadPath:
    case proto::Reject::BadRoot:
      if (budget_.failed(source, stream, now.mono)) ++counts_.cuts;
      break;
    default:;  // says nothing against who passed it on
  }
  return why;
}

SubscriberCore::Refusal SubscriberCore::control(proto::ByteView bytes, SourceId source,
                                                base::Now now) {
  const auto frame = proto::decode_control(bytes);
  if (!frame) return frame.error();
  if (frame->kind == proto::ControlKind::Head) return head(*frame, source, now);
  return offer(frame->payload, CredentialBook::Came::Announced, source, now);
}

SubscriberCore::Refusal SubscriberCore::offer(proto::ByteView sealed, CredentialBook::Came came,
                                              SourceId source, base::Now now) {
  const auto known = book_.offer(sealed, came, source, budget_, now);
  if (!known) return known.error();
  if (*known) {
    fetching_.erase((*known)->id);
    ++counts_.checks;
    actions_.check_credential(**known);
  }
  return std::nullopt;
}

std::optional<proto::Reject> SubscriberCore::judged(const proto::Hash& credential,
                                                    const proto::Decoded<CredentialVerdict>& verdict,
                                                    base::Now now) {
  last_now_ = now;
  const auto asked = book_.share(credential);
  const auto known = book_.judge(credential, verdict);
  if (!known) {
    ++counts_.refused[index(known.error())];
    return asked ? disproved(known.error(), asked->source, asked->stream, now) : known.error();
  }
  installed(**known, now);
  // What was asked for in vain may be believed now.
  if (Stream* stream = stream_of(**known); stream && stream->tracker) {
    stream->stuck_since.reset();
    stream->attempt = 0;
    stream->not_before = {};
    pursue(*stream, now);
  }
  return std::nullopt;
}

SubscriberCore::Stream* SubscriberCore::stream_of(const KnownCredential& known) {
  const auto it = streams_.find(known.stream);
  return it == streams_.end() ? nullptr : it->second.get();
}

void SubscriberCore::installed(KnownCredential& known, base::Now now) {
  const proto::Credential& credential = known.credential;
  Stream* stream = stream_of(known);
  if (!stream) {
    if (streams_.size() >= kMaxStreams) return;
    stream = (streams_[known.stream] = std::make_unique<Stream>(credential.stream, known.stream)).get();
    if (const auto cursor = resume_.find(known.stream); cursor != resume_.end()) {
      stream->tracker.emplace(cursor->second.position);
      // Where epochs ended in between is learnt again, by walking from the position's own.
      stream->epoch = cursor->second.position_epoch;
      stream->ratchet_epoch = cursor->second.epoch;
      stream->ratchet_beat = cursor->second.beat;
      if (stream->epoch == stream->ratchet_epoch) stream->serial = cursor->second.serial;
    }
    stream->whole = prefix_.empty();
  }
  if (credential.epoch < stream->epoch) return;  // for history only
  // While epochs are still being walked the newest one is ahead of the stream's own.
  if (const KnownCredential* newest = book_.find(stream->newest);
      !newest || std::pair(newest->credential.epoch, newest->credential.serial) <
                     std::pair(credential.epoch, credential.serial))
    stream->newest = known.id;
  if (credential.epoch == stream->epoch) return;
  if (!stream->tracker || stream->epoch == 0) {
    // Nothing was consumed of an earlier epoch.
    stream->epoch = credential.epoch;
    stream->serial = credential.serial;
    stream->beat = 0;
    return;
  }
  if (credential.serial == 0 && credential.pin.epoch <= stream->epoch) {
    enter_epoch(*stream, credential, now);
    return;
  }
  // Epochs lie between that may each have been rewound: their first credentials say.
  stream->unknown_epoch = std::max(stream->unknown_epoch, credential.epoch);
  pursue(*stream, now);
}

void SubscriberCore::enter_epoch(Stream& stream, const proto::Credential& first, base::Now now) {
  GapTracker& tracker = *stream.tracker;
  const std::uint64_t position = tracker.position();
  const std::uint64_t end = first.new_journal ? 0 : first.pin.last_seq;
  if (position > end || first.new_journal) {
    const GapReason reason = first.new_journal ? GapReason::NewJournal : GapReason::Rewound;
    // What was consumed above `end` stays consumed; what the old epoch had beyond it nobody knows.
    ++counts_.gaps;
    actions_.gap({stream.name, stream.epoch, position + 1, std::nullopt, reason});
    tracker.rewind(end);
    stream.ends.clear();
  } else {
    // Where earlier epochs seemed to go on past this end, a restored copy has cut them off.
    std::uint64_t ended = stream.epoch;
    for (; !stream.ends.empty() && stream.ends.back().first > end; stream.ends.pop_back())
      ended = stream.ends.back().second;
    if (stream.ends.empty() || stream.ends.back().first < end) stream.ends.emplace_back(end, ended);
    if (stream.ends.size() > kRememberedHeaders) stream.ends.pop_front();
    tracker.end_epoch(stream.epoch, end);
    tracker.want(end);
  }
  stream.stuck_since.reset();
  stream.epoch = first.epoch;
  stream.serial = 0;
  stream.serial_from = 0;
  stream.beat = 0;
  stream.headers.clear();
  stream.equivocated = false;
  stream.sealed_header.clear();
  stream.head_last = end;
  stream.head_oldest = 0;
  stream.signed_last = 0;
  pursue(stream, now);
}

// `serial_zeros`: by epoch, ascending, those above the stream's epoch.
void SubscriberCore::walk_epochs(Stream& stream,
                                 const std::vector<const proto::Credential*>& serial_zeros,
                                 base::Now now) {
  const std::uint64_t target = stream.unknown_epoch;
  for (const proto::Credential* first : serial_zeros) {
    if (first->epoch <= stream.epoch || first->epoch > target) continue;
    // One in between is missing or not (yet) believed: its end is not known.
    if (first->pin.epoch > stream.epoch) break;
    enter_epoch(stream, *first, now);
  }
  if (stream.epoch >= target) stream.unknown_epoch = 0;
}

void SubscriberCore::fetch_credential(const proto::Hash& id, const proto::Hash& stream) {
  if (fetching_.contains(id) || fetching_.size() >= kMaxFetching) return;
  // Not again and again for one that nobody has.
  if (const auto it = fetched_.find(id); it != fetched_.end() && last_now_.mono - it->second < kFetchPause)
    return;
  if (fetched_.size() > 1024) fetched_.clear();
  fetched_[id] = last_now_.mono;
  const std::uint64_t question = next_question_++;
  fetching_[id] = question;
  actions_.ask({question, stream, 0, "credential", {{"credential", id}}});
}

void SubscriberCore::set_policy(trust::Policy policy, base::Now now) {
  last_now_ = now;
  for (KnownCredential* known : book_.renew(std::move(policy))) actions_.check_credential(*known);
}

// ---- live frames ----

SubscriberCore::Refusal SubscriberCore::event(proto::ByteView bytes, SourceId source, base::Now now) {
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame) return frame.error();
  Stream* stream = last_stream_;
  if (!stream || stream->sealed_header != frame->sealed_header) {
    const auto header = proto::decode_header(frame->header());
    if (!header) return header.error();
    KnownCredential* known = book_.find(header->credential);
    if (!known || known->state == KnownCredential::State::Checking) {
      if (!known) fetch_credential(header->credential, {});
      return proto::Reject::UnknownCredential;
    }
    if (known->state == KnownCredential::State::Refused) return known->why;
    stream = stream_of(*known);
    if (!stream) return proto::Reject::WrongStream;
    if (stream->sealed_header != frame->sealed_header)
      if (const Refusal why = new_header(*stream, *known, *frame, *header, source, now)) return why;
    last_stream_ = stream;
  }
  // The sealer can have been revoked, or dropped, since its header was checked.
  if (stream->sealer->state != KnownCredential::State::Good) {
    stream->sealed_header.clear();
    return stream->sealer->why;
  }
  if (budget_.cut(source, stream->id, now.mono)) return proto::Reject::SourceCut;
  const auto event = proto::decode_event(frame->event);
  if (!event) return event.error();
  if (event->seq < stream->header.first_seq || event->seq > stream->header.last_seq())
    return proto::Reject::BadIndex;
  if (!stream->merkle.verify(proto::event_leaf(frame->topic, frame->event),
                             event->seq - stream->header.first_seq, frame->path))
    return disproved(proto::Reject::BadPath, source, stream->id, now);
  // From here on it is the publisher's own word, whatever it says.
  if (!proto::is_under(frame->topic, prefix_)) return std::nullopt;
  if (!stream->tracker) return std::nullopt;  // joining: before the start
  GapTracker& tracker = *stream->tracker;
  if (tracker.seen(event->seq)) {
    ++counts_.duplicates;
    return std::nullopt;
  }
  stream->whole |= event->base_segments >= prefix_depth_;
  const std::uint64_t previous = event->previous(prefix_depth_);
  if (tracker.in_order(previous) && stream->header.epoch == stream->epoch) {
    const auto sealer = stream->sealer;  // whatever the consumer does
    consume(*stream, event->seq, event->time_ns, *sealer, frame->topic, event->body);
    if (tracker.held() > 0) drain(*stream);
    return std::nullopt;
  }
  tracker.hold(event->seq, {stream->header.epoch, previous, event->time_ns, stream->sealer->id,
                            std::string(frame->topic), proto::Bytes(event->body)});
  pursue(*stream, now);
  return std::nullopt;
}

SubscriberCore::Refusal SubscriberCore::new_header(Stream& stream, KnownCredential& known,
                                                   const proto::EventFrame& frame,
                                                   const proto::BatchHeader& header,
                                                   SourceId source, base::Now now) {
  if (header.epoch != known.credential.epoch) return proto::Reject::BadField;
  if (header.epoch < stream.epoch) return proto::Reject::EpochRollback;
  if (stream.equivocated) return proto::Reject::Equivocation;
  const std::uint32_t serial = known.credential.serial;
  if (header.epoch == stream.epoch && serial < stream.serial && header.number >= stream.serial_from)
    return proto::Reject::Superseded;
  if (budget_.cut(source, stream.id, now.mono)) return proto::Reject::SourceCut;
  const auto good = book_.check_seal(header.credential, header.time_ns, frame.header(), frame.seal(),
                                     true, now);
  if (!good) return disproved(good.error(), source, stream.id, now);
  const proto::Hash hash = proto::header_hash(frame.header());
  if (header.epoch == stream.epoch) {
    if (const auto it = stream.headers.find(header.number);
        it != stream.headers.end() && it->second != hash) {
      stream.equivocated = true;
      return proto::Reject::Equivocation;
    }
    const auto before = stream.headers.find(header.number - 1);
    if (before != stream.headers.end() && before->second != header.previous)
      return proto::Reject::BadChain;
    stream.headers[header.number] = hash;
    if (stream.headers.size() > kRememberedHeaders) stream.headers.erase(stream.headers.begin());
    if (serial > stream.serial) {
      stream.serial = serial;
      stream.serial_from = header.number;
    }
  }
  stream.sealed_header = frame.sealed_header;
  stream.header = header;
  stream.merkle = proto::MerkleVerifier(header.root, header.count);
  stream.sealer = book_.share(known.id);
  return std::nullopt;
}

SubscriberCore::Refusal SubscriberCore::head(const proto::ControlFrame& frame, SourceId source,
                                             base::Now now) {
  if (frame.payload.size() < proto::kSealSize) return proto::Reject::Truncated;
  const proto::ByteView bytes = frame.payload.substr(0, frame.payload.size() - proto::kSealSize);
  const auto head = proto::decode_head(bytes);
  if (!head) return head.error();
  if (head->stream != frame.stream) return proto::Reject::WrongStream;
  const KnownCredential* known = book_.find(head->credential);
  if (!known) {
    fetch_credential(head->credential, {});
    return proto::Reject::UnknownCredential;
  }
  if (known->stream != head->stream) return proto::Reject::WrongStream;
  if (known->credential.epoch != head->epoch) return proto::Reject::BadField;
  if (budget_.cut(source, head->stream, now.mono)) return proto::Reject::SourceCut;
  const auto good = book_.check_seal(head->credential, head->time_ns, bytes,
                                     frame.payload.substr(bytes.size()), true, now);
  if (!good) return disproved(good.error(), source, head->stream, now);
  const bool clock = std::chrono::abs(base::from_ns(head->time_ns) - now.wall) > CredentialBook::kSkew;
  if (!clock) actions_.head_heard(*head);
  Stream* found = stream_of(*known);
  if (!found) return proto::Reject::WrongStream;
  Stream& stream = *found;
  if (head->epoch < std::max(stream.epoch, stream.ratchet_epoch)) return proto::Reject::EpochRollback;
  if ((head->epoch == stream.epoch && head->beat <= stream.beat) ||
      (head->epoch == stream.ratchet_epoch && head->beat <= stream.ratchet_beat))
    return proto::Reject::StaleHead;
  stream.clock = clock;
  if (clock) return proto::Reject::ClockSkew;
  if (head->epoch > stream.epoch) return std::nullopt;  // still walking to it
  if (const auto it = stream.headers.find(head->batch);
      it != stream.headers.end() && it->second != head->header) {
    stream.equivocated = true;
    return proto::Reject::Equivocation;
  }
  ++counts_.heads;
  stream.beat = head->beat;
  stream.head_at = now.mono;
  stream.promise = std::max<base::Duration>(std::chrono::milliseconds(head->next_ms),
                                            std::chrono::milliseconds(10));
  stream.head_last = head->last;
  stream.head_oldest = head->oldest;
  if (!stream.tracker) {
    join(stream, *head, now);
    if (!stream.tracker) return std::nullopt;
  }
  GapTracker& tracker = *stream.tracker;
  for (const proto::Head::Pair& pair : head->pairs)
    if (proto::is_under(pair.prefix, prefix_)) stream.signed_last = std::max(stream.signed_last, pair.last);
  if (tracker.position() >= head->since) {
    std::uint64_t last = 0;
    for (const proto::Head::Pair& pair : head->pairs)
      if (proto::is_under(pair.prefix, prefix_) || proto::is_under(prefix_, pair.prefix))
        last = std::max(last, pair.last);
    if (last > tracker.position())
      tracker.want(last);
    else
      tracker.advance(head->last);
  } else {
    tracker.want(head->last);
  }
  drain(stream);
  pursue(stream, now);
  return std::nullopt;
}

void SubscriberCore::join(Stream& stream, const proto::Head& head, base::Now now) {
  const std::uint64_t oldest = head.oldest > 0 ? head.oldest - 1 : 0;
  if (std::holds_alternative<StartOldest>(options_.start)) {
    stream.tracker.emplace(std::min(oldest, head.last));
  } else if (const auto* start = std::get_if<StartSeq>(&options_.start);
             start && start->publisher == stream.name.publisher) {
    stream.tracker.emplace(std::min(start->seq > 0 ? start->seq - 1 : 0, head.last));
  } else if (const auto* time = std::get_if<StartTime>(&options_.start)) {
    stream.locating = true;
    if (stream.question == 0 && now.mono >= stream.not_before)
      ask(stream, "info", {{"stream", stream.id}, {"time", time->time_ns}});
  } else {
    stream.tracker.emplace(head.last);
  }
}

proto::Decoded<SubscriberCore::Inspected> SubscriberCore::inspect(proto::ByteView bytes,
                                                                  const proto::Hash& stream,
                                                                  base::Now now) {
  last_now_ = now;
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame) return proto::refuse(frame.error());
  const auto header = proto::decode_header(frame->header());
  if (!header) return proto::refuse(header.error());
  const auto event = proto::decode_event(frame->event);
  if (!event) return proto::refuse(event.error());
  if (!book_.find(header->credential)) fetch_credential(header->credential, stream);
  const auto known = book_.check_seal(header->credential, header->time_ns, frame->header(),
                                      frame->seal(), false, now);
  if (!known) return proto::refuse(known.error());
  if ((*known)->stream != stream) return proto::refuse(proto::Reject::WrongStream);
  if (event->seq < header->first_seq || event->seq > header->last_seq())
    return proto::refuse(proto::Reject::BadIndex);
  proto::MerkleVerifier merkle(header->root, header->count);
  if (!merkle.verify(proto::event_leaf(frame->topic, frame->event), event->seq - header->first_seq,
                     frame->path))
    return proto::refuse(proto::Reject::BadPath);
  if (const auto why = book_.denies(**known, frame->topic)) return proto::refuse(*why);
  return Inspected{stream,      (*known)->credential.stream, header->epoch,
                   event->seq,  std::string(frame->topic),   proto::Bytes(event->body)};
}

// ---- order ----

void SubscriberCore::consume(Stream& stream, std::uint64_t seq, std::uint64_t time_ns,
                             KnownCredential& known, proto::ByteView topic, proto::ByteView body) {
  stream.tracker->advance(seq);
  stream.stuck_since.reset();
  if (const auto* start = std::get_if<StartTime>(&options_.start); start && time_ns < start->time_ns) {
    ++counts_.filtered;
  } else if (!proto::matches_any(options_.patterns, topic)) {
    ++counts_.filtered;
  } else if (const auto why = book_.denies(known, topic)) {
    ++counts_.denied;
    ++counts_.refused[index(*why)];
  } else {
    const Delivery event{stream.name, stream.id, known.credential.epoch, seq, time_ns, topic, body};
    if (actions_.deliver(event) == Outcome::Delivered)
      ++counts_.delivered;
    else
      ++counts_.undecodable;
  }
}

void SubscriberCore::drain(Stream& stream) {
  while (auto next = stream.tracker->take_ready(stream.epoch)) {
    KnownCredential* known = book_.find(next->second.credential);
    if (!known || known->state != KnownCredential::State::Good) {
      stream.tracker->want(next->first);  // revoked or forgotten since: replay judges it anew
      return;
    }
    consume(stream, next->first, next->second.time_ns, *known, next->second.topic, next->second.body);
  }
}

void SubscriberCore::give_up(Stream& stream, std::uint64_t to, GapReason reason, base::Now now) {
  GapTracker& tracker = *stream.tracker;
  std::uint64_t from = tracker.position() + 1;
  while (from <= to) {
    // A gap never spans an epoch.
    std::uint64_t end = to;
    for (const auto& [last, ended] : stream.ends)
      if (from <= last) {
        end = std::min(end, last);
        break;
      }
    ++counts_.gaps;
    counts_.gap_events += end - from + 1;
    actions_.gap({stream.name, stream.epoch_of(from), from, end, reason});
    from = end + 1;
  }
  tracker.advance(to);
  stream.stuck_since.reset();
  stream.hole_to = 0;
  stream.attempt = 0;
  drain(stream);
  pursue(stream, now);
}

// Nobody can tell how the epochs between went: what they held is lost to us, and named as far as the
// newest credential's pin knows it.
void SubscriberCore::skip_unknown_epochs(Stream& stream) {
  const KnownCredential* newest = book_.find(stream.newest);
  assert(newest);
  const proto::Pin& pin = newest->credential.pin;
  ++counts_.gaps;
  const std::uint64_t from = stream.tracker->position() + 1;
  actions_.gap({stream.name, stream.epoch_of(from), from, std::nullopt, GapReason::Unavailable});
  if (pin.epoch > stream.epoch && pin.last_seq > 0) {
    ++counts_.gaps;
    actions_.gap({stream.name, pin.epoch, 1, pin.last_seq, GapReason::Unavailable});
  }
  stream.tracker->rewind(pin.last_seq);
  stream.ends.clear();
  stream.signed_last = 0;
  stream.headers.clear();
  stream.equivocated = false;
  stream.sealed_header.clear();
  stream.epoch = stream.unknown_epoch;
  stream.serial = newest->credential.serial;
  stream.serial_from = 0;
  stream.beat = 0;
  stream.unknown_epoch = 0;
  stream.stuck_since.reset();
}

// ---- replay ----

void SubscriberCore::ask(Stream& stream, std::string verb, proto::Map args) {
  stream.question = next_question_++;
  questions_[stream.question] = stream.id;
  actions_.ask({stream.question, stream.id, stream.attempt, std::move(verb), std::move(args)});
}

void SubscriberCore::pursue(Stream& stream, base::Now now) {
  if (!stream.tracker) return;
  GapTracker& tracker = *stream.tracker;
  if (stream.unknown_epoch == 0 && !tracker.behind()) {
    stream.stuck_since.reset();
    return;
  }
  if (!stream.stuck_since) stream.stuck_since = now.mono;
  if (stream.question != 0 || now.mono < stream.not_before) return;
  if (const KnownCredential* newest = book_.find(stream.newest);
      newest && newest->state == KnownCredential::State::Refused)
    return;
  if (stream.unknown_epoch != 0) {
    ask(stream, "credential",
        {{"stream", stream.id}, {"before_epoch", stream.unknown_epoch + 1}, {"limit", 64}});
    return;
  }
  // Its own signed word that they are gone.
  if (stream.head_oldest > tracker.position() + 1) {
    give_up(stream, std::min(stream.head_oldest - 1, tracker.wanted()), GapReason::Retention, now);
    return;
  }
  ++counts_.replays;
  stream.asked_to = tracker.wanted();
  ask(stream, "replay",
      proto::to_args({stream.id, tracker.position() + 1, tracker.wanted(), prefix_, options_.replay_bytes}));
}

void SubscriberCore::failed(Stream& stream, std::uint32_t after_ms, base::Now now) {
  ++stream.attempt;
  base::Duration pause = kFirstBackoff * (1u << std::min(stream.attempt, 7u));
  pause = std::max<base::Duration>(std::min(pause, kMaxBackoff), std::chrono::milliseconds(after_ms));
  stream.not_before = now.mono + pause;
}

void SubscriberCore::answered(std::uint64_t question, proto::Decoded<proto::Answer> answer,
                              SourceId source, base::Now now) {
  last_now_ = now;
  if (const auto it = questions_.find(question); it != questions_.end()) {
    const auto found = streams_.find(it->second);
    questions_.erase(it);
    if (found == streams_.end() || found->second->question != question) return;
    Stream& stream = *found->second;
    stream.question = 0;
    if (!answer || answer->refused) {
      const proto::Reject why = answer ? *answer->refused : answer.error();
      ++counts_.refused[index(why)];
      failed(stream, answer ? answer->after_ms : 0, now);
    } else if (stream.locating) {
      const auto before = proto::field<std::uint64_t>(answer->fields, "before");
      if (before) {
        stream.locating = false;
        stream.tracker.emplace(std::min(*before, stream.head_last));
        stream.tracker->want(stream.head_last);
        stream.attempt = 0;
      } else {
        failed(stream, 0, now);
      }
    } else if (stream.unknown_epoch != 0) {
      listed(stream, *answer, source, now);
    } else if (stream.tracker) {
      replayed(stream, *answer, source, now);
    }
    pursue(stream, now);
    return;
  }
  // A credential fetched by id.
  const auto it = std::ranges::find(fetching_, question,
                                    &std::pair<const proto::Hash, std::uint64_t>::second);
  if (it == fetching_.end()) return;
  fetching_.erase(it);
  if (!answer || answer->refused) return;
  for (const proto::Bytes& sealed : answer->parts)
    if (const Refusal why = offer(sealed, CredentialBook::Came::Asked, source, now))
      ++counts_.refused[index(*why)];
}

void SubscriberCore::listed(Stream& stream, const proto::Answer& answer, SourceId source,
                            base::Now now) {
  // First credentials only, oldest first: in that order they are of use, however few may be checked.
  std::map<std::uint64_t, std::pair<proto::Hash, const proto::Bytes*>> offered;
  for (const proto::Bytes& sealed : answer.parts) {
    const auto decoded = proto::decode_sealed(sealed);
    if (!decoded) continue;
    const auto credential = proto::decode_credential(decoded->document);
    if (credential && credential->stream.id() == stream.id && credential->epoch > stream.epoch &&
        credential->serial == 0)
      offered[credential->epoch] = {proto::credential_id(decoded->document), &sealed};
  }
  std::vector<const proto::Credential*> ascending;
  bool complete = true;
  for (const auto& [epoch, one] : offered) {
    if (const Refusal why = offer(*one.second, CredentialBook::Came::Asked, source, now)) {
      ++counts_.refused[index(*why)];
      if (*why == proto::Reject::Busy) break;
      continue;
    }
    const KnownCredential* known = book_.find(one.first);
    complete &= known->state != KnownCredential::State::Checking;
    if (complete && known->state == KnownCredential::State::Good) ascending.push_back(&known->credential);
  }
  walk_epochs(stream, ascending, now);
  if (stream.unknown_epoch != 0) failed(stream, 0, now);
}

// One signature proves a run of rows: each header names the hash of the one before.
SubscriberCore::Refusal SubscriberCore::check_rows(Stream& stream,
                                                   const std::vector<proto::BatchRow>& rows,
                                                   const std::vector<proto::BatchHeader>& headers,
                                                   base::Now now) {
  bool chained = false;
  for (std::size_t i = rows.size(); i-- > 0;) {
    const proto::BatchHeader& header = headers[i];
    KnownCredential* known = book_.find(header.credential);
    if (!known) {
      for (std::size_t k = 0; k <= i; ++k)
        if (!book_.find(headers[k].credential)) fetch_credential(headers[k].credential, stream.id);
      return proto::Reject::UnknownCredential;
    }
    if (known->stream != stream.id) return proto::Reject::WrongStream;
    if (known->credential.epoch != header.epoch) return proto::Reject::BadField;
    const auto good =
        chained ? book_.check_life(header.credential, header.time_ns, false, now)
                : book_.check_seal(header.credential, header.time_ns, rows[i].header(), rows[i].seal(),
                                   false, now);
    if (!good) return good.error();
    if (proto::row_root(rows[i]) != header.root) return proto::Reject::BadRoot;
    if (header.epoch == stream.epoch)
      if (const auto it = stream.headers.find(header.number);
          it != stream.headers.end() && it->second != proto::header_hash(rows[i].header()))
        return proto::Reject::Equivocation;
    chained = i > 0 && headers[i - 1].epoch == header.epoch &&
              headers[i - 1].number + 1 == header.number &&
              proto::header_hash(rows[i - 1].header()) == header.previous;
    if (i > 0 && headers[i - 1].last_seq() >= header.first_seq) return proto::Reject::BadOrder;
  }
  return std::nullopt;
}

void SubscriberCore::replayed(Stream& stream, const proto::Answer& answer, SourceId source,
                              base::Now now) {
  GapTracker& tracker = *stream.tracker;
  const auto refuse = [&](proto::Reject why) {
    ++counts_.refused[index(disproved(why, source, stream.id, now))];
    failed(stream, 0, now);
  };
  const auto fields = proto::replay_answer(answer.fields);
  if (!fields) return refuse(fields.error());
  std::vector<proto::BatchRow> rows;
  std::vector<proto::BatchHeader> headers;
  for (const proto::Bytes& part : answer.parts) {
    auto row = proto::decode_row(part);
    if (!row) return refuse(row.error());
    headers.push_back(*proto::decode_header(row->header()));
    rows.push_back(std::move(*row));
  }
  if (const Refusal why = check_rows(stream, rows, headers, now)) return refuse(*why);

  const std::uint64_t before = tracker.position();
  if (fields->oldest > before + 1) {
    // It no longer has the beginning. If that is the publisher's word, a head will say so.
    stream.hole_to = fields->oldest - 1;
    return failed(stream, 0, now);
  }
  std::uint64_t hole = 0;
  std::uint64_t through = fields->through;
  for (std::size_t i = 0; i < rows.size() && hole == 0; ++i) {
    // How an epoch begins is for its first credential to say; what is in it comes after that.
    if (headers[i].epoch > stream.epoch) {
      through = std::min(through, headers[i].first_seq - 1);
      break;
    }
    KnownCredential* known = book_.find(headers[i].credential);
    for (std::size_t k = 0; k < rows[i].items.size(); ++k) {
      const auto& [topic, bytes] = rows[i].items[k];
      const auto event = proto::decode_event(bytes);
      // Sealed by its publisher and not an event all the same: consumed, and counted.
      const std::uint64_t seq = headers[i].first_seq + k;
      if (!event || event->seq != seq) {
        if (seq > tracker.position() && proto::is_under(topic, prefix_)) {
          ++counts_.undecodable;
          tracker.advance(seq);
        }
        continue;
      }
      if (!proto::is_under(topic, prefix_) || seq <= tracker.position()) continue;
      const std::uint64_t previous = event->previous(prefix_depth_);
      stream.whole |= event->base_segments >= prefix_depth_;
      if (!tracker.in_order(previous)) {
        hole = previous;
        break;
      }
      ++counts_.replayed;
      consume(stream, seq, event->time_ns, *known, topic, event->body);
    }
  }
  through = std::min(through, stream.asked_to);
  // An event we hold is there, whatever the answer leaves out; so is what its publisher has signed.
  if (const std::uint64_t held = tracker.first_held(); held > tracker.position())
    through = std::min(through, held - 1);
  if (hole == 0 && stream.signed_last > tracker.position() && stream.signed_last <= through) {
    ++counts_.refused[index(proto::Reject::SeqMismatch)];
    hole = stream.signed_last;
  }
  // A whole stream has no numbers without an event, whatever the answer claims.
  if (hole == 0 && stream.whole && tracker.position() < std::min(through, tracker.wanted()))
    hole = std::min(through, tracker.wanted());
  if (hole == 0) {
    tracker.advance(std::min(through, tracker.wanted()));
    stream.attempt = 0;
    stream.not_before = {};
    stream.hole_to = 0;
  } else {
    stream.hole_to = hole;
    if (tracker.position() == before) failed(stream, 0, now);
  }
  if (tracker.position() > before) stream.stuck_since.reset();
  drain(stream);
}

void SubscriberCore::tick(base::Now now) {
  last_now_ = now;
  for (auto& [id, stream] : streams_) {
    if (stream->locating && stream->question == 0 && now.mono >= stream->not_before)
      ask(*stream, "info",
          {{"stream", stream->id}, {"time", std::get<StartTime>(options_.start).time_ns}});
    pursue(*stream, now);
    if (!options_.never_give_up && stream->stuck_since &&
        now.mono - *stream->stuck_since > options_.gap_after) {
      if (stream->unknown_epoch != 0) {
        skip_unknown_epochs(*stream);
      } else {
        const std::uint64_t to = stream->hole_to > stream->tracker->position()
                                     ? std::min(stream->hole_to, stream->tracker->wanted())
                                     : stream->tracker->wanted();
        give_up(*stream, to, GapReason::Unavailable, now);
      }
    }
  }
}

// ---- what others want to know ----

store::Cursors SubscriberCore::cursors() const {
  store::Cursors cursors = resume_;
  for (const auto& [id, stream] : streams_)
    if (stream->tracker)
      cursors[id] = {std::max(stream->epoch, stream->ratchet_epoch), stream->serial,
                     stream->epoch >= stream->ratchet_epoch && stream->beat > 0 ? stream->beat
                                                                               : stream->ratchet_beat,
                     stream->tracker->position(),
                     stream->epoch_of(stream->tracker->position() + 1)};
  return cursors;
}

const proto::Credential* SubscriberCore::current_credential(const proto::Hash& id) const {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return nullptr;
  const KnownCredential* known = book_.find(it->second->newest);
  return known ? &known->credential : nullptr;
}

std::vector<StreamInfo> SubscriberCore::streams(base::Now now) const {
  std::vector<StreamInfo> infos;
  for (const auto& [id, stream] : streams_) {
    StreamInfo info{stream->name, id, StreamState::Current, stream->epoch, 0, 0, stream->head_last, {}};
    if (stream->head_at) info.head_age = now.mono - *stream->head_at;
    const KnownCredential* newest = book_.find(stream->newest);
    if (newest && newest->state == KnownCredential::State::Refused)
      info.state = StreamState::Refused;
    else if (!stream->tracker)
      info.state = StreamState::Joining;
    else if (stream->clock)
      info.state = StreamState::Clock;
    else if (!stream->head_at || info.head_age > 3 * stream->promise)
      info.state = StreamState::Stale;
    else if (stream->tracker->behind())
      info.state = StreamState::Behind;
    if (stream->tracker) {
      info.position = stream->tracker->position();
      info.wanted = stream->tracker->wanted();
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

}  // namespace mirrorbus::peer
