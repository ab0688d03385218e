// Hands a publisher's journal over to one relay, without I/O: from the relay's answers, what was
// read from the journal and the time to what is asked, sent and read next. Loop thread only. See
// proto/serve.md.
//
//   ask how far the relay is → is its last row one of ours? if not, the first credentials of later
//   epochs, until it has cut off what we have lost → rows from there on, each behind the
//   credentials that seal it, a window of them in flight; heads beside them
//
// Whatever is refused or lost begins again with the question, after a pause. Nothing is skipped: a
// row that the disk has changed is where it ends, until retention has taken that.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/store/journal.hpp"
#include "proto/forward.hpp"

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace mirrorbus::peer {

// What to look up in the journal.
struct ForwardRead {
  enum class What {
    Match,       // the row that ends with `seq`, and the first credential above `epoch`
    Rows,        // from `seq` on
    Firsts,      // the first credentials of the epochs in (epoch, to_epoch]
    Credential,  // by its id, behind the first one of its epoch
  };
  What what = What::Match;
  std::uint64_t seq = 0;
  std::uint64_t epoch = 0;
  std::uint64_t to_epoch = 0;
  proto::Hash id;
};
struct ForwardFound {
  std::uint64_t oldest = 0, last = 0;        // as a journal's tail
  std::optional<proto::Hash> header;         // Match: the hash of that row's header
  std::vector<proto::Bytes> rows;
  bool damaged = false;  // Rows: the next one is not what was signed
  std::vector<proto::SealedCredential> credentials;
};
// Blocking: on the journal's reading thread.
ForwardFound forward_read(store::Journal& journal, const ForwardRead& read);

// What the core wants done. None of these calls back.
class ForwardActions {
 public:
  virtual ~ForwardActions() = default;
  virtual void send(std::uint64_t question, proto::ForwardRequest::Kind kind,
                    std::vector<proto::Bytes> parts) = 0;
  // The answer comes by found(), with the same number.
  virtual void read(std::uint64_t number, const ForwardRead& read) = 0;
  // The connection is of no use any more: another for what is sent next.
  virtual void reconnect() = 0;
};

class ForwardCore {
 public:
  static constexpr std::size_t kWindowBytes = 4 << 20;
  static constexpr std::size_t kWindowRequests = 64;  // of rows
  // Small, so that the relay, which verifies each row, sees to others between two requests.
  static constexpr std::size_t kRequestBytes = 256 << 10;
  static constexpr std::size_t kRequestRows = 32;
  static constexpr base::Duration kTimeout = std::chrono::seconds(10);
  static constexpr base::Duration kFirstPause = std::chrono::milliseconds(100);
  static constexpr base::Duration kLongestPause = std::chrono::seconds(30);      // refused
  static constexpr base::Duration kLongestAwayPause = std::chrono::seconds(2);  // nobody there

  explicit ForwardCore(ForwardActions& actions) : actions_(actions) {}

  // Rows up to `last` are in the journal.
  void durable(std::uint64_t last, base::Now now);
  // The newest head, sealed, and which credential sealed it.
  void head(proto::Bytes sealed, const proto::Hash& credential, base::Now now);

  void answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer, base::Now now);
  void found(std::uint64_t number, ForwardFound found, base::Now now);
  // The connection is gone, or the journal could not be read.
  void failed(proto::Reject why, base::Now now);
  void tick(base::Now now);
  // When tick() has something to do although nothing else happens; empty: not by itself.
  std::optional<base::MonoTime> wake() const;

  std::uint64_t through() const { return there_.through; }  // durable at the relay, as far as known
  bool in_order() const { return state_ == State::Ready; }  // the relay takes what we have
  std::optional<proto::Reject> trouble() const { return trouble_; }  // why not, since it last did
  std::uint64_t damaged_at() const { return damaged_at_; }  // trouble() is of the row there; or 0
  std::uint64_t rows() const { return rows_; }                       // taken there

 private:
  using Kind = proto::ForwardRequest::Kind;
  enum class State { Pause, Asking, Matching, Ready };
  // What is to be sent, in this order.
  struct Item {
    Kind kind = Kind::Rows;
    std::vector<proto::Bytes> parts;
    std::size_t bytes = 0;
    std::uint64_t epoch = 0;  // Rows: theirs; Credential: of a first one, else 0
    std::uint64_t first = 0, last = 0;
    std::size_t rows = 0;
    proto::Hash credential;  // Rows: what sealed them; Credential: itself
  };
  struct InFlight {
    Item item;
    base::MonoTime until;
  };

  void pump(base::Now now);
  void match(base::Now now);
  void send_head(base::Now now);
  void send_rows(base::Now now);
  // True: a credential that must come before it is on its way there.
  bool lacks_credential(const proto::Hash& id, std::uint64_t rows_epoch, std::uint64_t first);
  void send(Item item, base::Now now);
  void ask_journal(ForwardRead read);
  void take_rows(std::vector<proto::Bytes> rows, base::Now now);
  void queue_credentials(const std::vector<proto::SealedCredential>& sealed);
  void credential_taken(const Item& item, const proto::ForwardAnswer& there);
  void again_from(std::uint64_t seq);
  void pause(proto::Reject why, std::uint32_t after_ms, base::Duration longest, base::Now now);

  ForwardActions& actions_;
  State state_ = State::Pause;
  base::MonoTime not_before_{};
  base::Duration next_pause_ = kFirstPause;
  std::optional<proto::Reject> trouble_;

  std::uint64_t durable_ = 0;   // here
  proto::ForwardAnswer there_;  // as it last said
  std::uint64_t epoch_ = 0;     // first credentials up to this epoch are there, or not needed
  std::uint64_t next_ = 0;      // seq to read on from
  std::uint64_t expected_ = 0;  // the first seq of the next row to be sent
  std::set<proto::Hash> confirmed_;  // credentials that it has

  std::deque<Item> credentials_;  // before anything else
  std::deque<Item> queue_;        // rows
  std::size_t queued_bytes_ = 0;
  std::map<std::uint64_t, InFlight> in_flight_;
  std::size_t rows_in_flight_ = 0, bytes_in_flight_ = 0;
  bool credential_in_flight_ = false, head_in_flight_ = false;
  base::MonoTime resend_at_{};  // a credential or head that it was too busy for

  proto::Bytes head_;  // not yet sent; empty = none
  proto::Bytes newest_head_;
  proto::Hash head_credential_;
  bool head_known_ = false;  // it has had one since we asked

  std::uint64_t next_number_ = 1;
  std::uint64_t reading_ = 0;  // the read under way; 0 = none
  ForwardRead read_;
  std::uint64_t rows_ = 0;
  std::uint64_t damaged_at_ = 0;
};

}  // namespace mirrorbus::peer
