// One stream as a subscriber knows it: whose it is, how far it is, what its heads say, what is
// being asked. Belongs to SubscriberCore and its parts.
#pragma once

#include "bus/peer/credential_book.hpp"
#include "bus/peer/gap_tracker.hpp"
#include "proto/merkle.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

namespace mirrorbus::peer {

enum class StreamState { Joining, Current, Behind, Stale, Clock, Refused };
std::string_view to_string(StreamState state) noexcept;

struct StreamInfo {
  proto::StreamName name;
  proto::Hash id;
  StreamState state;
  std::uint64_t epoch;
  std::uint64_t position;
  std::uint64_t wanted;
  std::uint64_t head_last;
  base::Duration head_age;
};

// Headers of one epoch heard lately, by batch number: its publisher has one for each.
class SeenHeaders {
 public:
  void add(const proto::BatchHeader& header, const proto::Hash& hash);
  // There is another one with this number.
  bool contradict(std::uint64_t number, const proto::Hash& hash) const;
  // The one before is known, and this one does not follow it: by its hash, or by its numbers.
  bool break_chain(const proto::BatchHeader& header) const;
  void clear() { by_number_.clear(); }

 private:
  struct Seen {
    proto::Hash hash;
    std::uint64_t last_seq;
  };
  std::map<std::uint64_t, Seen> by_number_;
};

// Where earlier epochs ended.
class EpochEnds {
 public:
  // `epoch`, the newest so far, ended at `last`.
  void add(std::uint64_t last, std::uint64_t epoch);
  // `epoch`, before all these, ended at `last`. False if it cannot have, or there is no room.
  bool add_before(std::uint64_t last, std::uint64_t epoch);
  // The earliest epoch that is known of; `newest` if none has ended.
  std::uint64_t first(std::uint64_t newest) const {
    return ends_.empty() ? newest : ends_.front().second;
  }
  void clear() { ends_.clear(); }
  // The epoch that `seq` belongs to, `newest` if none that ended; and how far that goes, if it did.
  std::uint64_t epoch_of(std::uint64_t seq, std::uint64_t newest) const;
  std::optional<std::uint64_t> end_of(std::uint64_t seq) const;
  // The epoch known to have begun by `seq`; 0 if none is.
  std::uint64_t begun_by(std::uint64_t seq, std::uint64_t newest) const;

 private:
  std::deque<std::pair<std::uint64_t, std::uint64_t>> ends_;  // oldest first: (last seq, epoch)
};

struct SubscribedStream {
  SubscribedStream(proto::StreamName name_, const proto::Hash& id_)
      : name(std::move(name_)), id(id_) {}

  std::uint64_t epoch_of(std::uint64_t seq) const { return ends.epoch_of(seq, epoch); }
  // Can an event beyond the position be of this epoch? What a restored copy has cut off is sealed all
  // the same, and somebody may still have it.
  bool may_hold(std::uint64_t seq, std::uint64_t its_epoch) const;
  // Which epoch the event after the position belongs to; 0 if nothing is known of where epochs began.
  std::uint64_t position_epoch() const;
  // Learns from credentials that are known where epochs ended that it joined after. True if it is
  // known now which epoch the event after the position belongs to.
  bool trace_epochs(const CredentialBook& book);
  // Forgets what was said in the epoch before.
  void begin_epoch(std::uint64_t number, std::uint32_t first_serial);
  // It is further than it was, or has all there is.
  void progressed();
  // An answer did not help: the next question goes elsewhere, and not at once.
  void failed(std::uint32_t after_ms, base::Now now);
  StreamInfo info(const KnownCredential* newest_credential, base::Now now) const;

  const proto::StreamName name;
  const proto::Hash id;
  std::optional<GapTracker> tracker;  // empty while joining
  std::uint64_t epoch = 0;            // the newest entered
  std::uint64_t earliest = 0;         // what is beyond the position is of no epoch before this
  std::uint32_t serial = 0;           // the highest heard in it …
  std::uint64_t serial_from = 0;      // … and the first batch it sealed
  std::uint64_t beat = 0;
  // What was accepted before a restart: heads only go on from there.
  std::uint64_t ratchet_epoch = 0;
  std::uint64_t ratchet_beat = 0;
  proto::Hash newest;  // id of the newest good credential
  EpochEnds ends;

  // The header of the batch that is coming in, and which of its events are proven.
  proto::Bytes sealed_header;
  proto::BatchHeader header;
  proto::MerkleVerifier merkle;
  std::shared_ptr<KnownCredential> sealer;
  SeenHeaders headers;  // of this epoch
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
  std::uint64_t asked_from = 0, asked_to = 0;  // of the last replay
  std::uint32_t attempt = 0;
  base::MonoTime not_before{};                // of the next question
  std::optional<base::MonoTime> stuck_since;  // behind without progress …
  bool waited_longer = false;                 // … and given more time once already
  std::uint64_t hole_to = 0;                  // an answer skipped (position, hole_to] …
  bool hole_is_event = false;                 // … and there is an event at its end
  // The rows of (position, unread_to] are sealed with what nobody has answered for; one behind is not.
  std::uint64_t unread_to = 0;
  // An epoch was entered whose beginning is not known yet: (position, nobody knows).
  std::uint64_t unknown_epoch = 0;
  // Asked: the first credentials of the epochs up to the newest, by who does not know them.
  bool tracing = false;
  std::uint32_t traces = 0;  // asked for one epoch, in vain so far
  // More lie between than one answer lists: below which epochs to ask next, the lowest last.
  std::vector<std::uint64_t> lists;
  bool locating = false;
};

}  // namespace mirrorbus::peer
