// What a SubscriberCore tells its driver: events, gaps, credentials to check, questions to ask.
#pragma once

#include "bus/peer/credential_book.hpp"
#include "proto/serve.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mirrorbus::peer {

struct Delivery {
  const proto::StreamName& stream;
  const proto::Hash& stream_id;
  std::uint64_t epoch;
  std::uint64_t seq;
  std::uint64_t time_ns;
  proto::ByteView topic;
  proto::ByteView body;  // msgpack; not looked into yet
  proto::ByteView frame{};  // as it came, provable by itself; empty if it was held back or replayed
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
  // That of `from`. Who joined at old events and cannot learn where epochs ended names the newest.
  std::uint64_t epoch;
  std::uint64_t from;
  // Empty: everything up to whatever comes next, and nobody knows how many.
  std::optional<std::uint64_t> to;
  GapReason reason;
};

// A question for a serve socket. The driver picks the source (the stream's own first; `attempt`
// turns to the others), waits for the answer, and hands it to answered() with the same id.
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

}  // namespace mirrorbus::peer
