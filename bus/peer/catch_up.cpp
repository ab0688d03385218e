#include "bus/peer/catch_up.hpp"

#include <algorithm>
#include <utility>

namespace mirrorbus::peer {
namespace {

constexpr std::uint64_t kListed = 64;
// Of so many answers: who has missed more epochs than that names a gap.
constexpr std::size_t kMaxLists = 256;
// Questions for where one epoch began, before a gap is named without knowing: some 20 s.
constexpr std::uint32_t kMaxTraces = 8;

}  // namespace

// ---- questions ----

void CatchUp::ask(SubscribedStream& stream, std::string verb, proto::Map args) {
  stream.question = subscription_.next_question();
  questions_[stream.question] = &stream;
  subscription_.actions.ask(
      {stream.question, stream.id, stream.attempt, std::move(verb), std::move(args)});
}

void CatchUp::pursue(SubscribedStream& stream, base::Now now) {
  if (!stream.tracker) return;
  const GapTracker& tracker = *stream.tracker;
  if (stream.unknown_epoch == 0 && !tracker.behind()) {
    stream.progressed();
    return;
  }
  if (!stream.stuck_since) stream.stuck_since = now.mono;
  if (stream.question != 0 || now.mono < stream.not_before) return;
  if (const KnownCredential* newest = intake_.book().find(stream.newest);
      newest && newest->state == KnownCredential::State::Refused)
    return;
  if (stream.unknown_epoch != 0) {
    ask(stream, "credential",
        {{"stream", stream.id}, {"before_epoch", list_before(stream)}, {"limit", kListed}});
    return;
  }
  // Its own signed word that they are gone.
  if (stream.head_oldest > tracker.position() + 1) {
    if (trace(stream)) return;
    give_up(stream, std::min(stream.head_oldest - 1, tracker.wanted()), GapReason::Retention, now);
    return;
  }
  // What seems to be left out may never have been: back-pointers reach no further back than their
  // publisher's last start. An answer for the hole alone tells, and from elsewhere.
  const bool hole = stream.hole_to > tracker.position();
  stream.asked_to = hole ? std::min(stream.hole_to, tracker.wanted()) : tracker.wanted();
  // No further than to what is held already.
  if (const std::uint64_t held = tracker.first_held(); held > tracker.position() + 1)
    stream.asked_to = std::min(stream.asked_to, held - 1);
  ask_replay(stream, tracker.position() + 1);
}

void CatchUp::ask_replay(SubscribedStream& stream, std::uint64_t from) {
  ++subscription_.counts.replays;
  stream.asked_from = from;
  ask(stream, "replay",
      proto::to_args({stream.id, from, stream.asked_to, subscription_.prefix,
                      subscription_.options.replay_bytes}));
}

// While we look at one answer the next is read there.
void CatchUp::ask_ahead(SubscribedStream& stream, const proto::Answer& answer) {
  const auto fields = proto::replay_answer(answer.fields);
  if (!fields || !fields->more || fields->through <= stream.tracker->position() ||
      fields->through >= stream.asked_to)
    return;
  ask_replay(stream, fields->through + 1);
}

void CatchUp::try_again(SubscribedStream& stream, base::Now now) {
  // Once: credentials can come without end, each in the place of one that is missed next.
  if (!std::exchange(stream.waited_longer, true)) stream.stuck_since.reset();
  stream.attempt = 0;
  stream.not_before = {};
  pursue(stream, now);
}

bool CatchUp::answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                       SourceId source, base::Now now) {
  const auto it = questions_.find(question);
  if (it == questions_.end()) return false;
  SubscribedStream& stream = *it->second;
  questions_.erase(it);
  if (stream.question != question) return true;
  stream.question = 0;
  const bool tracing = std::exchange(stream.tracing, false);
  if (!answer || answer->refused) {
    subscription_.count(answer ? *answer->refused : answer.error());
    stream.failed(answer ? answer->after_ms : 0, now);
  } else if (stream.locating) {
    located(stream, *answer, now);
  } else if (tracing) {
    traced(stream, *answer, source, now);
  } else if (stream.unknown_epoch != 0) {
    listed(stream, *answer, source, now);
  } else if (stream.tracker) {
    // What was asked ahead follows an answer that may have been no good.
    if (stream.asked_from <= stream.tracker->position() + 1) {
      ask_ahead(stream, *answer);
      replayed(stream, *answer, source, now);
    }
  }
  pursue(stream, now);
  return true;
}

void CatchUp::tick(SubscribedStream& stream, base::Now now) {
  if (stream.locating) locate(stream, now);
  pursue(stream, now);
  if (subscription_.options.never_give_up || !stream.stuck_since ||
      now.mono - *stream.stuck_since <= subscription_.options.gap_after)
    return;
  if (stream.unknown_epoch != 0) return order_.skip_unknown_epochs(stream);
  const std::uint64_t wanted = stream.tracker->wanted();
  if (stream.head_oldest > stream.tracker->position() + 1)
    return give_up(stream, std::min(stream.head_oldest - 1, wanted), GapReason::Retention, now);
  // No more than must be: what lies behind a hole may be had.
  std::uint64_t to = wanted;
  for (const std::uint64_t hole : {stream.hole_to, stream.unread_to})
    if (hole > stream.tracker->position()) to = std::min(to, hole);
  give_up(stream, to, GapReason::Unavailable, now);
}

void CatchUp::give_up(SubscribedStream& stream, std::uint64_t to, GapReason reason,
                      base::Now now) {
  order_.give_up(stream, to, reason);
  pursue(stream, now);
}

// ---- where a time lies ----

void CatchUp::locate(SubscribedStream& stream, base::Now now) {
  stream.locating = true;
  if (stream.question != 0 || now.mono < stream.not_before) return;
  const auto& start = std::get<StartTime>(subscription_.options.start);
  ask(stream, "info", {{"stream", stream.id}, {"time", start.time_ns}});
}

void CatchUp::located(SubscribedStream& stream, const proto::Answer& answer, base::Now now) {
  const auto before = proto::field<std::uint64_t>(answer.fields, "before");
  if (!before) return stream.failed(0, now);
  stream.locating = false;
  stream.tracker.emplace(std::min(*before, stream.head_last));
  stream.tracker->want(stream.head_last);
  stream.attempt = 0;
}

// ---- epochs ----

void CatchUp::enter_epoch(SubscribedStream& stream, const proto::Credential& first,
                          base::Now now) {
  order_.enter_epoch(stream, first);
  if (stream.epoch >= stream.unknown_epoch) know_epochs(stream);
  pursue(stream, now);
}

void CatchUp::know_epochs(SubscribedStream& stream) {
  stream.unknown_epoch = 0;
  stream.lists.clear();
}

std::uint64_t CatchUp::list_before(SubscribedStream& stream) {
  while (!stream.lists.empty() && stream.lists.back() <= stream.epoch + 1) stream.lists.pop_back();
  return stream.lists.empty() ? stream.unknown_epoch + 1 : stream.lists.back();
}

void CatchUp::new_epoch(SubscribedStream& stream, const proto::Credential& credential,
                        base::Now now) {
  if (credential.serial == 0 && credential.pin.epoch <= stream.epoch)
    return enter_epoch(stream, credential, now);
  // Epochs lie between that may each have been rewound: their first credentials say.
  stream.unknown_epoch = std::max(stream.unknown_epoch, credential.epoch);
  pursue(stream, now);
}

void CatchUp::listed(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
                     base::Now now) {
  // First credentials only, oldest first: in that order they are of use, however few may be
  // checked.
  struct Offer {
    proto::Hash id;
    const proto::Bytes* sealed;
    std::uint64_t before;  // the epoch that it says came before
  };
  std::map<std::uint64_t, Offer> offered;
  for (const proto::Bytes& sealed : answer.parts) {
    const auto decoded = proto::decode_sealed(sealed);
    if (!decoded) continue;
    const auto credential = proto::decode_credential(decoded->document);
    if (credential && credential->stream.id() == stream.id && credential->epoch > stream.epoch &&
        credential->serial == 0)
      offered[credential->epoch] = {proto::credential_id(decoded->document), &sealed,
                                    credential->pin.epoch};
  }
  if (offered.empty()) {
    stream.lists.clear();
    return stream.failed(0, now);
  }
  // Nobody has vouched for these yet, and all that is taken from them is where to ask next: nearer
  // to where we are, or else never again.
  const auto& [lowest, its] = *offered.begin();
  if (its.before > stream.epoch && lowest < list_before(stream) &&
      stream.lists.size() < kMaxLists) {
    stream.lists.push_back(lowest);
    return;
  }
  std::vector<const proto::Credential*> ascending;
  bool complete = true;
  for (const auto& [epoch, one] : offered) {
    if (const auto why = intake_.offer(*one.sealed, CredentialBook::Came::Asked, source, now)) {
      subscription_.count(*why);
      if (*why == proto::Reject::Busy) break;
      continue;
    }
    const KnownCredential* known = intake_.book().find(one.id);
    complete &= known->state != KnownCredential::State::Checking;
    if (complete && known->state == KnownCredential::State::Good)
      ascending.push_back(&known->credential);
  }
  walk_epochs(stream, ascending, now);
  if (stream.unknown_epoch != 0) stream.failed(0, now);
}

// `serial_zeros`: by epoch, ascending, those above the stream's epoch.
void CatchUp::walk_epochs(SubscribedStream& stream,
                          const std::vector<const proto::Credential*>& serial_zeros,
                          base::Now now) {
  const std::uint64_t target = stream.unknown_epoch;
  for (const proto::Credential* first : serial_zeros) {
    if (first->epoch <= stream.epoch || first->epoch > target) continue;
    // One in between is missing or not (yet) believed: its end is not known.
    if (first->pin.epoch > stream.epoch) break;
    enter_epoch(stream, *first, now);
  }
  if (stream.epoch >= target) know_epochs(stream);
}

// Who joined at old events knows the newest epoch alone, until a gap is to be named in those before.
// True: how they began is being asked.
bool CatchUp::trace(SubscribedStream& stream) {
  if (stream.trace_epochs(intake_.book()) || stream.traces >= kMaxTraces) return false;
  ++stream.traces;
  stream.tracing = true;
  ask(stream, "credential",
      {{"stream", stream.id},
       {"before_epoch", stream.ends.first(stream.epoch) + 1},
       {"limit", kListed}});
  return true;
}

// The newest first, as they are listed: each says which is needed next.
void CatchUp::traced(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
                     base::Now now) {
  for (const proto::Bytes& sealed : answer.parts) {
    const auto decoded = proto::decode_sealed(sealed);
    if (!decoded) continue;
    const auto credential = proto::decode_credential(decoded->document);
    if (!credential || credential->stream.id() != stream.id || credential->serial != 0 ||
        credential->epoch > stream.epoch)
      continue;
    const auto why = intake_.offer(sealed, CredentialBook::Came::Asked, source, now);
    if (why) subscription_.count(*why);
    if (why == proto::Reject::Busy) break;
    if (credential->pin.last_seq <= stream.tracker->position()) break;
  }
  stream.failed(0, now);
}

// ---- replay ----

void CatchUp::replayed(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
                       base::Now now) {
  const auto replay = Replay::read(answer, stream, intake_, now);
  if (!replay) {
    subscription_.count(intake_.disproved(replay.error(), source, stream.id, now));
    return stream.failed(0, now);
  }
  GapTracker& tracker = *stream.tracker;
  const std::uint64_t before = tracker.position();
  if (replay->fields.oldest > before + 1) {
    // It no longer has the beginning. If that is the publisher's word, a head will say so.
    stream.hole_to = replay->fields.oldest - 1;
    stream.hole_is_event = false;
    return stream.failed(0, now);
  }
  const auto [through, hole] = held_against_what_is_known(stream, take(stream, *replay));
  stream.hole_to = hole.to;
  stream.hole_is_event = hole.is_event;
  if (hole.to == 0) {
    tracker.believe(std::min(through, tracker.wanted()));
    stream.attempt = 0;
    stream.not_before = {};
  } else if (tracker.position() <= before) {
    stream.failed(0, now);
  } else {
    ++stream.attempt;
  }
  if (tracker.position() > before) stream.progressed();
  order_.drain(stream);
}

CatchUp::Taken CatchUp::take(SubscribedStream& stream, const Replay& replay) {
  Taken taken{replay.fields.through, {}};
  for (std::size_t i = 0; i < replay.rows.size() && taken.hole.to == 0; ++i) {
    const proto::BatchHeader& header = replay.headers[i];
    // How an epoch begins is for its first credential to say; what is in it comes after that.
    if (header.epoch > stream.epoch) {
      taken.through = std::min(taken.through, header.first_seq - 1);
      break;
    }
    taken.hole = take_row(stream, replay.rows[i], header);
  }
  return taken;
}

// What should have come before one of these; nothing: all were taken.
CatchUp::Hole CatchUp::take_row(SubscribedStream& stream, const proto::BatchRow& row,
                                const proto::BatchHeader& header) {
  GapTracker& tracker = *stream.tracker;
  KnownCredential* known = intake_.book().find(header.credential);
  std::uint64_t seq = header.first_seq;
  for (const auto& [topic, bytes] : row.items) {
    const std::uint64_t its_seq = seq++;
    if (!proto::is_under(topic, subscription_.prefix)) continue;
    if (header.epoch == stream.epoch) order_.learn_of(stream, its_seq);
    if (its_seq <= tracker.position()) continue;
    const auto event = proto::decode_event(bytes);
    if (!event || event->seq != its_seq) {
      // Sealed by its publisher and not an event all the same: consumed, and counted.
      ++subscription_.counts.undecodable;
      tracker.advance(its_seq);
      continue;
    }
    const std::uint64_t previous = event->previous(subscription_.prefix_depth);
    stream.whole |= event->base_segments >= subscription_.prefix_depth;
    const bool exact = event->exact_at(subscription_.prefix_depth);
    if (exact) order_.learn_of(stream, previous);
    if (!tracker.in_order(previous)) return {previous, exact};
    ++subscription_.counts.replayed;
    order_.consume(stream, its_seq, event->time_ns, *known, topic, event->body);
  }
  return {};
}

CatchUp::Taken CatchUp::held_against_what_is_known(const SubscribedStream& stream, Taken taken) {
  auto [through, hole] = taken;
  const GapTracker& tracker = *stream.tracker;
  through = std::min(through, stream.asked_to);
  // An event we hold is there, whatever the answer leaves out; so is what its publisher has signed.
  if (const std::uint64_t held = tracker.first_held(); held > tracker.position())
    through = std::min(through, held - 1);
  const std::uint64_t there[] = {stream.hole_is_event ? stream.hole_to : 0, tracker.before_held(),
                                 stream.signed_last};
  for (const std::uint64_t seq : there) {
    if (hole.to != 0 || seq <= tracker.position() || seq > through) continue;
    subscription_.count(proto::Reject::SeqMismatch);
    hole = {seq, true};
  }
  // A whole stream has no numbers without an event, whatever the answer claims.
  if (hole.to == 0 && stream.whole && tracker.position() < std::min(through, tracker.wanted()))
    hole = {std::min(through, tracker.wanted()), true};
  return {through, hole};
}

}  // namespace mirrorbus::peer
