// The publisher's protocol, without I/O: numbers events, closes batches, seals them, and says what
// to keep and what to send. The driver makes each batch durable before it sends it.
//
//   publish() … → next_batch() → [driver: journal] → durable() → [driver: send the frames]
//
// Loop thread only. Rules: proto/batch.md, proto/event.md, proto/head.md.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/peer/prefix_map.hpp"
#include "bus/peer/recent_topics.hpp"
#include "bus/store/journal.hpp"
#include "bus/trust/session_key.hpp"
#include "proto/batch.hpp"
#include "proto/credential.hpp"
#include "proto/head.hpp"
#include "proto/topic.hpp"

#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <vector>

namespace mirrorbus::peer {

enum class PublishError {
  Full,           // too much is waiting: try again later; the only back-pressure there is
  BadTopic,       // not a topic, or not below this publisher's prefix.env
  OutOfScope,     // not among the credential's scopes
  TooLarge,       // event over 64 KiB
  NotReady,       // no credential yet, or it is about to end and could not be renewed
};
std::string_view to_string(PublishError error) noexcept;

struct PublisherOptions {
  std::string base;  // prefix.env, e.g. "org.example.dev"
  std::size_t max_waiting_bytes = 8 << 20;
  double signatures_per_second = 1000;  // protects receivers: one verify is 35 µs
  double signature_burst = 8;
  base::Duration beat = std::chrono::seconds(1);
  // Publishing stops this long before the credential does.
  base::Duration end_margin = std::chrono::seconds(60);
};

// A sealed batch, on its way to the journal and then to the subscribers. What an event's frame is made
// of stands in the row already, but for its path.
struct SealedBatch {
  struct Item {
    proto::RowItemAt at;
    std::uint32_t topic_size, event_size;
    std::uint32_t path_at;  // in paths, up to the next item's
    std::uint64_t ticket;
  };
  store::JournalRow row;
  std::vector<Item> items;
  proto::Bytes paths;

  // Valid as long as the batch is neither changed nor moved.
  proto::ByteView topic(std::size_t i) const;
  proto::EventFrame frame(std::size_t i) const;
};

class PublisherCore {
 public:
  // `tail`: how the journal ends. `epoch` is durable already and above the tail's.
  PublisherCore(PublisherOptions options, const proto::Hash& stream, const store::Tail& tail,
                std::uint64_t epoch);

  // The pin of the serial-0 credential of this epoch, or of the next serial: the last durable
  // batch.
  proto::Pin pin() const { return pin_; }
  // Journalled and announced by the driver; used from the next batch on.
  void use_credential(const proto::Credential& credential, const proto::Hash& id,
                      trust::SessionKey key);
  const std::optional<proto::Credential>& credential() const { return credential_; }
  const proto::Hash& credential_id() const { return credential_id_; }  // zero without one
  bool ready(base::Now now) const;

  // Takes an event; `body` is msgpack. The ticket comes back in the batch that carries the event.
  std::expected<std::uint64_t, PublishError> publish(
      proto::ByteView topic, proto::Bytes body, base::Now now,
      std::optional<store::SubmissionRecord> submission = std::nullopt);

  // Closes a batch, if one may close: a full one always (while at most a few are on their way to
  // the journal), any other when none is on its way and a signature may be spent.
  std::optional<SealedBatch> next_batch(base::Now now);
  // When next_batch() will have something although nothing changes; empty = not by itself.
  std::optional<base::MonoTime> wake(base::Now now) const;
  // The batch is in the journal. Batches become durable in order.
  void durable(const SealedBatch& batch);

  // A sealed head, to be sent every `beat`. `oldest`: first seq the journal holds. Empty without a
  // usable credential.
  std::optional<proto::Bytes> head(base::Now now, std::uint64_t oldest);

  // A verified head of our stream was heard: did another publisher of the same identity send it?
  // Our own heads, whoever repeats them, and those of our earlier runs are no sign of another.
  bool of_another(const proto::Head& head) const;

  std::uint64_t last_durable() const { return durable_seq_; }
  std::uint64_t epoch() const { return epoch_; }
  bool idle() const { return waiting_.empty() && in_flight_ == 0; }

 private:
  struct Waiting {
    std::shared_ptr<const std::string> topic;  // one for a run of events
    proto::Bytes body;
    std::uint64_t ticket;
    std::optional<store::SubmissionRecord> submission;
    std::size_t cost() const { return topic->size() + body.size() + 64; }
  };
  bool full_batch() const;
  void refill(base::MonoTime now);

  PublisherOptions options_;
  std::uint8_t base_segments_;
  proto::Hash stream_;
  std::uint64_t epoch_;
  proto::Pin pin_;
  PrefixMap prefixes_;   // of what is sealed
  RecentTopics recent_;  // of what is durable: a head speaks of nothing else

  std::optional<proto::Credential> credential_;
  proto::Hash credential_id_;
  std::optional<trust::SessionKey> key_;
  std::vector<proto::TopicPattern> scopes_;
  std::shared_ptr<const std::string> checked_topic_;  // the last one found good

  std::deque<Waiting> waiting_;
  proto::Bytes event_;  // the one being encoded
  std::size_t waiting_bytes_ = 0;
  std::uint64_t next_ticket_ = 1;
  std::size_t in_flight_ = 0;  // sealed, not yet durable
  double tokens_;
  base::MonoTime refilled_{};

  std::uint64_t sealed_seq_ = 0;    // last number given out
  std::uint64_t sealed_batch_ = 0;  // in this epoch
  proto::Hash sealed_header_;
  std::uint64_t durable_seq_ = 0;
  std::uint64_t durable_batch_ = 0;
  proto::Hash durable_header_;
  std::uint64_t last_time_ns_ = 0;

  std::uint64_t beat_ = 0;
  std::deque<proto::Hash> sent_heads_;  // the latest, by their bytes; the last one is of beat_
  std::deque<std::uint64_t> beat_lasts_;  // `last` of the latest beats, oldest first; never empty
};

}  // namespace mirrorbus::peer
