// The subscriber's protocol, without I/O: from frames, answers, verdicts and the time to events in
// order, each exactly once, and to a named gap for whatever cannot be had.
//
// Loop thread only. One literal prefix per subscription: the longest that all patterns share; what is
// under it but matches no pattern is ordered and then filtered. Rules: proto/batch.md, event.md,
// head.md, serve.md.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/peer/credential_book.hpp"
#include "bus/peer/gap_tracker.hpp"
#include "bus/store/cursor.hpp"
#include "proto/merkle.hpp"
#include "proto/serve.hpp"

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <variant>

namespace mirrorbus::peer {

struct Delivery {
  const proto::StreamName& stream;
  const proto::Hash& stream_id;
  std::uint64_t epoch;
  std::uint64_t seq;
  std::uint64_t time_ns;
  proto::ByteView topic;
  proto::ByteView body;  // msgpack; not looked into yet
};
// "<stream>-<epoch>-<seq>": the same whenever the event comes, unlike any other event's.
std::string event_id(const proto::Hash& stream, std::uint64_t epoch, std::uint64_t seq);

enum class GapReason {
  Retention,    // the publisher no longer has it, by its own signed word
  Unavailable,  // nobody who was asked has it, for as long as `gap_after`
  Rewound,      // the publisher came back as an older copy of itself; its numbers start again
  NewJournal,   // the publisher lost its journal
};
std::string_view to_string(GapReason reason) noexcept;

// Events that will not be delivered. Never spans an epoch; nothing from before it comes later.
struct Gap {
  const proto::StreamName& stream;
  std::uint64_t epoch;
  std::uint64_t from;
  // Empty: everything up to whatever comes next, and nobody knows how many.
  std::optional<std::uint64_t> to;
  GapReason reason;
};

// Where to begin with a stream that has no cursor.
struct StartNow {};
struct StartOldest {};  // whatever its journal still holds
struct StartTime {
  std::uint64_t time_ns;
};
struct StartSeq {
  std::string publisher;  // others start now
  std::uint64_t seq;
  std::optional<std::uint64_t> epoch;  // empty: the newest epoch that has it
};
using Start = std::variant<StartNow, StartOldest, StartTime, StartSeq>;

// A question for a serve socket. The driver picks the source (the stream's own first; `attempt` turns
// to the others), waits for the answer, and hands it to answered() with the same id.
struct Question {
  std::uint64_t id;
  proto::Hash stream;  // zero: not known, ask anyone
  std::uint32_t attempt;
  std::string verb;
  proto::Map args;
};

enum class Outcome { Delivered, Undecodable };

class SubscriberActions {
 public:
  virtual ~SubscriberActions() = default;
  virtual Outcome deliver(const Delivery& event) = 0;
  virtual void gap(const Gap& gap) = 0;
  // Check the signature of this credential, then call judged().
  virtual void check_credential(const KnownCredential& known) = 0;
  virtual void ask(const Question& question) = 0;
  // A head whose seal verifies and whose time is now, whatever else becomes of it.
  virtual void head_heard(const proto::Head&) {}
};

struct SubscriberOptions {
  std::vector<proto::TopicPattern> patterns;
  Start start = StartNow{};
  base::Duration gap_after = std::chrono::seconds(60);
  bool never_give_up = false;  // archives
  std::size_t replay_bytes = 1 << 20;
};

// Every seq a subscription passes ends in exactly one of the first four, or in a gap.
struct SubscriberCounts {
  std::uint64_t delivered = 0;
  std::uint64_t filtered = 0;  // under the prefix, matching no pattern
  std::uint64_t denied = 0;
  std::uint64_t undecodable = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t gaps = 0;
  std::uint64_t gap_events = 0;  // those whose number is known
  std::uint64_t replays = 0;
  std::uint64_t replayed = 0;  // events taken from replay answers
  std::uint64_t heads = 0;
  std::uint64_t checks = 0;  // credentials handed to check_credential()
  std::uint64_t cuts = 0;    // streams cut at an endpoint for a while
  std::array<std::uint64_t, 128> refused{};  // by proto::Reject
};

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

class SubscriberCore {
 public:
  SubscriberCore(SubscriberOptions options, trust::Policy policy, store::Cursors cursors,
                 SubscriberActions& actions);
  ~SubscriberCore();

  // What to subscribe to: everything under this whole-segment prefix, and control frames.
  const std::string& prefix() const { return prefix_; }

  // A frame from a PUB socket. The reason if it was refused; refusals are counted here.
  std::optional<proto::Reject> frame(proto::ByteView bytes, SourceId source, base::Now now);
  // The reason if the credential is not believed.
  std::optional<proto::Reject> judged(const proto::Hash& credential,
                                      const proto::Decoded<CredentialVerdict>& verdict, base::Now now);
  // The answer to a question, or why there is none, and who was asked.
  void answered(std::uint64_t question, proto::Decoded<proto::Answer> answer, SourceId source,
                base::Now now);
  // At least every 100 ms or so.
  void tick(base::Now now);

  // An event by itself, as somebody handed it on: who sealed it and what it says, if the seal is good
  // and the policy allows it. Moves no position. UnknownCredential: it is being fetched, try again.
  struct Inspected {
    proto::Hash stream;
    proto::StreamName name;
    std::uint64_t epoch = 0;
    std::uint64_t seq = 0;
    std::string topic;
    proto::Bytes body;
  };
  proto::Decoded<Inspected> inspect(proto::ByteView frame, const proto::Hash& stream, base::Now now);

  // Policy or keyring have changed.
  void set_policy(trust::Policy policy, base::Now now);

  store::Cursors cursors() const;
  const SubscriberCounts& counts() const { return counts_; }
  std::vector<StreamInfo> streams(base::Now now) const;
  const KnownCredential* credential(const proto::Hash& id) const { return book_.find(id); }
  // The endpoints a stream's newest good credential advertises.
  const proto::Credential* current_credential(const proto::Hash& stream) const;

 private:
  struct Stream;
  using Refusal = std::optional<proto::Reject>;

  Refusal control(proto::ByteView bytes, SourceId source, base::Now now);
  Refusal head(const proto::ControlFrame& frame, SourceId source, base::Now now);
  Refusal event(proto::ByteView bytes, SourceId source, base::Now now);
  Refusal new_header(Stream& stream, KnownCredential& known, const proto::EventFrame& frame,
                     const proto::BatchHeader& header, SourceId source, base::Now now);
  Refusal offer(proto::ByteView sealed, CredentialBook::Came came, SourceId source, base::Now now);
  proto::Reject disproved(proto::Reject why, SourceId source, const proto::Hash& stream, base::Now now);
  void installed(KnownCredential& known, base::Now now);
  void enter_epoch(Stream& stream, const proto::Credential& serial_zero, base::Now now);
  void walk_epochs(Stream& stream, const std::vector<const proto::Credential*>& serial_zeros,
                   base::Now now);
  void join(Stream& stream, const proto::Head& head, base::Now now);
  void consume(Stream& stream, std::uint64_t seq, std::uint64_t time_ns, KnownCredential& known,
               proto::ByteView topic, proto::ByteView body);
  void drain(Stream& stream);
  void give_up(Stream& stream, std::uint64_t to, GapReason reason, base::Now now);
  void skip_unknown_epochs(Stream& stream);
  void pursue(Stream& stream, base::Now now);
  void ask(Stream& stream, std::string verb, proto::Map args);
  void replayed(Stream& stream, const proto::Answer& answer, SourceId source, base::Now now);
  Refusal check_rows(Stream& stream, const std::vector<proto::BatchRow>& rows,
                     const std::vector<proto::BatchHeader>& headers, base::Now now);
  void listed(Stream& stream, const proto::Answer& answer, SourceId source, base::Now now);
  void failed(Stream& stream, std::uint32_t after_ms, base::Now now);
  void fetch_credential(const proto::Hash& id, const proto::Hash& stream);
  Stream* stream_of(const KnownCredential& known);

  SubscriberOptions options_;
  std::string prefix_;
  std::size_t prefix_depth_;
  CredentialBook book_;
  SourceBudget budget_;
  store::Cursors resume_;
  SubscriberActions& actions_;
  SubscriberCounts counts_;
  std::unordered_map<proto::Hash, std::unique_ptr<Stream>> streams_;
  // The stream of the last event: nearly always that of the next.
  Stream* last_stream_ = nullptr;

  std::uint64_t next_question_ = 1;
  std::unordered_map<std::uint64_t, proto::Hash> questions_;  // replay and lists, by id: stream
  // Credentials being fetched by id: question.
  std::unordered_map<proto::Hash, std::uint64_t> fetching_;
  std::unordered_map<proto::Hash, base::MonoTime> fetched_;
  base::Now last_now_{};
};

}  // namespace mirrorbus::peer
