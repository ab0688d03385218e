// A stream that is handed over to a relay, with its journal: rows become durable here before they
// are acknowledged and sent. Loop thread only; the journal's threads are those of HeldWorkers.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/pool.hpp"
#include "bus/peer/serve_server.hpp"
#include "bus/peer/stream_verbs.hpp"
#include "bus/store/sqlite_journal.hpp"
#include "services/relay/forwarded_stream.hpp"
#include "services/relay/forwarded_trust.hpp"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace mirrorbus::relay {

// The writing and the reading thread of all journals together.
struct HeldWorkers {
  explicit HeldWorkers(base::Loop& loop) : writer(loop, 1), reader(loop, 1) {}
  base::WorkerPool writer, reader;
};

// What was found in a journal's file; opening blocks.
struct OpenedJournal {
  std::unique_ptr<store::SqliteJournal> journal;
  store::Tail tail;
  std::uint32_t serial = 0;                           // of the credential of the last row
  std::vector<proto::SealedCredential> firsts;        // of the epochs after the last row's
  std::optional<proto::SealedCredential> newest;      // credential
};
OpenedJournal open_journal(const std::string& file);

class HeldStream {
 public:
  struct Handlers {
    // A durable row, whose events may be sent now; in order.
    std::function<void(HeldStream&, const store::JournalRow&)> on_durable;
    // After some rows became durable, or a credential was kept.
    std::function<void(HeldStream&)> on_change;
    // Its key has sealed two histories.
    std::function<void(HeldStream&)> on_equivocation;
    std::function<void(std::exception_ptr)> on_broken;
  };

  HeldStream(const proto::Hash& id, proto::StreamName name, OpenedJournal opened,
             HeldWorkers& workers, const Handlers& handlers, base::Log log);

  const proto::Hash& id() const { return id_; }
  const proto::StreamName& name() const { return name_; }
  ForwardedStream& core() { return core_; }

  // A believed credential: kept, and what it says of how its epoch began is done. `done` is told
  // why not; Busy while rows or another credential are on their way.
  using Done = std::move_only_function<void(std::optional<proto::Reject>)>;
  void keep(const peer::KnownCredential& known, Done done);
  bool keeps() const { return keeping_; }

  // Rows of one request, verified; answered when durable. Either all of them are Held, or none is
  // and core() has accepted them in this order; only the first may be AfterHole.
  struct Rows {
    struct One {
      ForwardedTrust::Row row;
      ForwardedStream::Place place;
      proto::Bytes bytes;
    };
    std::vector<One> rows;
    std::size_t bytes = 0;
    std::optional<proto::Reject> refused;  // the row behind the last of these: their answer
    peer::ServeReply reply;
  };
  void add(Rows rows);
  std::size_t waiting_bytes() const { return waiting_bytes_; }
  bool idle() const { return waiting_.empty() && !writing_ && !keeping_; }

  // On the reading thread, then `done` on the loop.
  void answer(const proto::Request& request, peer::ServeReply reply);
  // Is it in the journal? Reading thread.
  std::optional<proto::SealedCredential> credential(const proto::Hash& id) {
    return journal_->credential(id);
  }
  // Retention, a few rows at a time, and checkpoints.
  void care(std::uint64_t before_ns, std::uint64_t max_bytes);

  // For announcements: the newest credential that is kept and whose pin has come. Before that, what
  // is sent of the run before it would be refused by whoever has heard of it.
  const proto::Hash& newest() const { return newest_.id; }  // zero: none yet
  const proto::Bytes& announcement() const { return newest_.announcement; }
  // Once for each newest one.
  bool announce_now() { return std::exchange(announce_now_, false); }

 private:
  using Row = store::JournalRow;
  using Age = std::pair<std::uint64_t, std::uint32_t>;  // epoch, serial
  struct Newest {
    Age age;
    std::uint64_t pin = 0;  // its last seq
    proto::Hash id;
    proto::Bytes announcement;
  };
  void compare(std::shared_ptr<Rows> rows);
  void write();
  void written(base::Outcome<void> done);
  void acknowledge(Rows& rows);
  // True: there is another one to announce.
  bool renew_newest();

  const proto::Hash id_;
  const proto::StreamName name_;
  HeldWorkers& workers_;
  const Handlers& handlers_;
  base::Log log_;
  std::unique_ptr<store::SqliteJournal> journal_;
  ForwardedStream core_;
  peer::StreamVerbs verbs_;

  std::deque<Rows> waiting_;  // for the disk
  std::size_t waiting_bytes_ = 0;
  bool writing_ = false;
  std::deque<Rows> under_way_;  // with the writer, and their rows:
  std::vector<Row> rows_;
  bool anew_ = false;  // in place of all that is held

  bool keeping_ = false;
  std::set<proto::Hash> kept_;
  Newest newest_;
  std::map<Age, Newest> later_;  // kept, and their pins are not here yet
  bool announce_now_ = false;
  bool caring_ = false;
};

}  // namespace mirrorbus::relay
