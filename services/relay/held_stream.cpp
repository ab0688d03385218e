#include "services/relay/held_stream.hpp"

#include <algorithm>

namespace mirrorbus::relay {
namespace {

using proto::Reject;
using Place = ForwardedStream::Place;

constexpr std::size_t kGroupBytes = 8 << 20;  // that one commit takes together
constexpr std::size_t kMaxKept = 4096;
constexpr std::size_t kMaxLater = 64;
constexpr std::uint32_t kAgainMs = 100;
constexpr std::uint32_t kAgainDiskMs = 1000;

std::uint32_t serial_of_last(store::Journal& journal, const store::Tail& tail) {
  if (tail.last_seq == 0) return 0;
  for (const proto::Bytes& bytes : journal.read({tail.last_seq, tail.last_seq, "", 1}).rows) {
    const auto row = proto::decode_row(bytes);
    if (!row) continue;
    const auto sealed = journal.credential(proto::decode_header(row->header())->credential);
    const auto credential = sealed ? proto::decode_credential(sealed->document)
                                   : proto::refuse(Reject::UnknownCredential);
    if (credential) return credential->serial;
  }
  return 0;
}

// What became of a credential.
struct Kept {
  bool there;
  store::Tail tail;
  std::uint32_t serial;
};

proto::Answer acknowledgement(const ForwardedStream& core) {
  proto::Answer answer;
  answer.fields = proto::to_fields(core.how_far());
  return answer;
}

}  // namespace

OpenedJournal open_journal(const std::string& file) {
  OpenedJournal opened;
  opened.journal = std::make_unique<store::SqliteJournal>(file);
  opened.tail = opened.journal->tail();
  opened.serial = serial_of_last(*opened.journal, opened.tail);
  opened.firsts =
      opened.journal->first_credentials_after(opened.tail.epoch, ForwardedStream::kMaxBegun);
  if (auto newest = opened.journal->credentials(INT64_MAX, 1); !newest.empty())
    opened.newest = std::move(newest.front());
  return opened;
}

HeldStream::HeldStream(const proto::Hash& id, proto::StreamName name, OpenedJournal opened,
                       HeldWorkers& workers, const Handlers& handlers, base::Log log)
    : id_(id),
      name_(std::move(name)),
      workers_(workers),
      handlers_(handlers),
      log_(std::move(log)),
      journal_(std::move(opened.journal)),
      core_(opened.tail, opened.serial),
      verbs_(id, *journal_) {
  // One that says the stream went back is done again when it comes again: what it takes away is not
  // known to be gone.
  for (const proto::SealedCredential& sealed : opened.firsts) {
    const auto first = proto::decode_credential(sealed.document);
    if (first && core_.begins(*first)) core_.forget_begun(first->epoch);
  }
}

// ---- credentials ----

void HeldStream::keep(const peer::KnownCredential& known, Done done) {
  if (keeping_) return done(Reject::Busy);
  const proto::Credential& credential = known.credential;
  // What it cuts off must not be on its way.
  const bool begins = credential.serial == 0 && credential.epoch > core_.how_far().epoch;
  if (begins && !core_.all_durable()) return done(Reject::Busy);
  const auto cut = core_.all_durable() ? core_.begins(credential) : std::nullopt;
  if (!cut && kept_.contains(known.id)) return done(std::nullopt);
  if (cut)
    log_.warning("{} goes on from {} in epoch {}: what it had published after that was lost there, "
                 "and is taken away here",
                 name_.publisher, *cut, credential.epoch);
  keeping_ = true;
  Newest newest{{credential.epoch, credential.serial},
                credential.new_journal ? 0 : credential.pin.last_seq,
                known.id,
                proto::encode_control(proto::ControlKind::Credential, id_,
                                      proto::encode_sealed(known.sealed))};
  workers_.writer.submit(
      [journal = journal_.get(), credential, sealed = known.sealed, cut] {
        journal->put_credential(credential, sealed);
        if (cut) journal->remove_after(*cut);
      },
      [this, newest = std::move(newest), cut = cut.has_value(),
       done = std::move(done)](base::Outcome<void> stored) mutable {
        if (!stored) {
          keeping_ = false;
          done(Reject::Unavailable);
          return handlers_.on_broken(stored.error());
        }
        workers_.reader.submit(
            [journal = journal_.get(), id = newest.id] {
              const store::Tail tail = journal->tail();
              return Kept{journal->credential(id).has_value(), tail,
                          serial_of_last(*journal, tail)};
            },
            [this, newest = std::move(newest), cut,
             done = std::move(done)](base::Outcome<Kept> kept) mutable {
              keeping_ = false;
              if (!kept) {
                done(Reject::Unavailable);
                return handlers_.on_broken(kept.error());
              }
              if (cut) core_.cut_off(kept->tail, kept->serial);
              // Another one of the same epoch and serial is there: its key has signed both.
              if (!kept->there) return done(Reject::Equivocation);
              if (kept_.size() >= kMaxKept) kept_.clear();
              kept_.insert(newest.id);
              if (newest.age >= newest_.age) later_[newest.age] = std::move(newest);
              renew_newest();
              if (later_.size() > kMaxLater) later_.erase(later_.begin());
              handlers_.on_change(*this);
              done(std::nullopt);
            });
      });
}

bool HeldStream::renew_newest() {
  for (auto due = later_.end(); due != later_.begin();) {
    if ((--due)->second.pin > core_.last()) continue;
    newest_ = std::move(due->second);
    later_.erase(later_.begin(), std::next(due));
    return announce_now_ = true;
  }
  return false;
}

// ---- rows ----

void HeldStream::add(Rows rows) {
  waiting_bytes_ += rows.bytes;
  if (!rows.rows.empty() && rows.rows.front().place == Place::Held)
    return compare(std::make_shared<Rows>(std::move(rows)));
  waiting_.push_back(std::move(rows));
  write();
}

// What was there already is answered as it was the first time, if it is the same. `rows` is shared
// by the job and what follows it, one after the other.
void HeldStream::compare(std::shared_ptr<Rows> rows) {
  workers_.reader.submit(
      [journal = journal_.get(), rows]() -> std::optional<Reject> {
        for (const Rows::One& one : rows->rows) {
          const proto::BatchHeader& header = one.row.header;
          const auto there = journal->read({header.first_seq, header.last_seq(), "", 1 << 20});
          for (const proto::Bytes& bytes : there.rows) {
            const auto row = proto::decode_row(bytes);
            if (!row || proto::header_hash(row->header()) == one.row.hash) continue;
            return proto::decode_header(row->header())->epoch == header.epoch
                       ? Reject::Equivocation
                       : Reject::EpochRollback;
          }
        }
        return std::nullopt;
      },
      [this, rows](base::Outcome<std::optional<Reject>> why) {
        if (!why) return handlers_.on_broken(why.error());
        if (*why) rows->refused = *why;
        if (*why == Reject::Equivocation) handlers_.on_equivocation(*this);
        waiting_bytes_ -= rows->bytes;
        acknowledge(*rows);
      });
}

void HeldStream::write() {
  if (writing_ || waiting_.empty()) return;
  writing_ = true;
  std::size_t bytes = 0;
  while (!waiting_.empty() &&
         (under_way_.empty() || bytes + waiting_.front().bytes <= kGroupBytes)) {
    Rows& next = waiting_.front();
    const bool anew = !next.rows.empty() && next.rows.front().place == Place::AfterHole;
    if (anew && !rows_.empty()) break;
    anew_ |= anew;
    bytes += next.bytes;
    for (Rows::One& one : next.rows) {
      const proto::BatchHeader& header = one.row.header;
      rows_.push_back({header.epoch, header.number, header.first_seq, header.last_seq(),
                       header.time_ns, one.row.hash, std::move(one.bytes), {}});
    }
    under_way_.push_back(std::move(next));
    waiting_.pop_front();
  }
  if (anew_)
    log_.warning("{}: what lies before {} is gone at its publisher; what is held here from before "
                 "that goes too",
                 name_.publisher, rows_.front().first_seq);
  workers_.writer.submit(
      [this, journal = journal_.get(), anew = anew_] {
        if (anew) journal->remove_after(0);
        if (!rows_.empty()) journal->append(rows_);
      },
      [this](base::Outcome<void> done) { written(std::move(done)); });
}

void HeldStream::written(base::Outcome<void> done) {
  writing_ = false;
  const bool anew = std::exchange(anew_, false);
  std::deque<Rows> requests = std::exchange(under_way_, {});
  const std::vector<Row> rows = std::exchange(rows_, {});
  if (!done) {
    try {
      std::rethrow_exception(done.error());
    } catch (const std::system_error& error) {
      // Begun anew, it may be without what it is believed to hold.
      if (anew || !base::is_disk_full(error)) return handlers_.on_broken(done.error());
      log_.error("journal of {}: {}; its forwarder is told to come again", name_.publisher,
                 base::describe(error));
    } catch (...) {
      return handlers_.on_broken(done.error());
    }
    core_.take_back();
    waiting_bytes_ = 0;
    for (auto* failed : {&requests, &waiting_})
      for (Rows& one : *failed) one.reply.refuse(Reject::Busy, kAgainDiskMs);
    waiting_.clear();
    return;
  }
  auto row = rows.begin();
  for (Rows& request : requests) {
    for (const Rows::One& one : request.rows) {
      core_.durable(one.row.header, one.row.hash, one.row.serial);
      handlers_.on_durable(*this, *row++);
      // Who hears the next row is to know its credential.
      if (renew_newest()) handlers_.on_change(*this);
    }
    waiting_bytes_ -= request.bytes;
    acknowledge(request);
  }
  handlers_.on_change(*this);
  write();
}

void HeldStream::acknowledge(Rows& rows) {
  if (rows.refused) return rows.reply.refuse(*rows.refused, kAgainMs);
  rows.reply(acknowledgement(core_));
}

// ---- answers, care ----

void HeldStream::answer(const proto::Request& request, peer::ServeReply reply) {
  workers_.reader.submit(
      [this, request] { return *verbs_.answer(request); },
      [this, reply = std::move(reply)](base::Outcome<proto::Answer> answer) mutable {
        if (answer) return reply(std::move(*answer));
        try {
          std::rethrow_exception(answer.error());
        } catch (const std::exception& error) {
          log_.error("reading the journal of {}: {}", name_.publisher, base::describe(error));
        }
        reply.refuse(Reject::Unavailable, 1000);
      });
}

void HeldStream::care(std::uint64_t before_ns, std::uint64_t max_bytes) {
  if (std::exchange(caring_, true)) return;
  workers_.writer.submit(
      [journal = journal_.get(), before_ns, max_bytes] {
        const bool more = journal->prune(before_ns, max_bytes);
        return std::pair(more, journal->wal_pages() > 0);
      },
      [this, before_ns, max_bytes](base::Outcome<std::pair<bool, bool>> done) {
        caring_ = false;
        if (!done)
          return log_.warning("retention of {} failed; it is tried again", name_.publisher);
        if (done->second)
          workers_.reader.submit([journal = journal_.get()] { journal->checkpoint(); },
                                 [this](base::Outcome<void> checkpointed) {
                                   if (!checkpointed)
                                     log_.warning("checkpoint of {} failed; it is tried again",
                                                  name_.publisher);
                                 });
        if (done->first) care(before_ns, max_bytes);
      });
}

}  // namespace mirrorbus::relay
