#include "bus/peer/publisher.hpp"

#include "bus/peer/journal_damage.hpp"
#include "bus/store/memory_journal.hpp"
#include "proto/head.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::peer {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kBeat = 1s;
constexpr base::Duration kAnnounce = 60s;
constexpr base::Duration kGreet = 20ms;       // after a subscriber came …
constexpr base::Duration kGreetPause = 500ms;  // … and then not for a while: the next beat is near
constexpr base::Duration kRetryDisk = 1s;
constexpr base::Duration kRetrySigning = 30s;
constexpr base::Duration kCare = 10s;
constexpr std::size_t kMemoryJournalBytes = 256 << 20;
// 64 MiB of write-ahead log; beyond it a commit may have to wait for a checkpoint.
constexpr std::int64_t kWalPages = (64 << 20) / 16384;
// Batches that one commit takes together.
constexpr std::size_t kGroup = 32;

proto::StreamName stream_name(const Settings& settings) {
  const trust::Identity identity = settings.signing.identity();
  return {identity.scheme, identity.fingerprint(), settings.bus.publisher};
}

std::unique_ptr<store::Journal> open_journal(const BusSettings& bus) {
  if (!bus.durable) return std::make_unique<store::MemoryJournal>(kMemoryJournalBytes);
  return std::make_unique<store::SqliteJournal>(bus.state + "/journal.sqlite");
}

}  // namespace

// What the signing worker brings back.
struct Publisher::Signed {
  proto::Credential credential;
  proto::SealedCredential sealed;
  trust::SessionKey key;
};

Publisher::Metrics::Metrics(base::Registry& r)
    : events(r.counter("mirrorbus_events_published_total", "Events made durable and sent.")),
      batches(r.counter("mirrorbus_batches_published_total", "Signed batches.")),
      disk_full(r.counter("mirrorbus_journal_disk_full_total",
                          "Commits that found the disk full and were tried again.")),
      duplicates(r.counter("mirrorbus_duplicate_publisher_total",
                           "Heads of this daemon's own stream that another one sent.")),
      damaged(journal_damaged(r)),
      last_seq(r.gauge("mirrorbus_last_seq", "Last durable sequence number.")),
      credential_not_after(r.gauge("mirrorbus_credential_not_after_seconds",
                                   "When the credential in use ends, since 1970.")) {}

Publisher::Publisher(base::Loop& loop, net::ZmqContext& context, const Settings& settings,
                     ServeServer& serve, const std::string& serve_endpoint,
                     const std::string& content, base::Registry& registry, base::Log log,
                     std::move_only_function<void(std::exception_ptr)> on_broken)
    : loop_(loop),
      settings_(settings),
      log_(log.area("publisher")),
      on_broken_(std::move(on_broken)),
      name_(stream_name(settings)),
      stream_(name_.id()),
      journal_(open_journal(settings.bus)),
      sqlite_(dynamic_cast<store::SqliteJournal*>(journal_.get())),
      start_tail_(journal_->tail()),
      verbs_(stream_, *journal_),
      oldest_(start_tail_.oldest_seq),
      socket_(loop, context, net::ZmqType::XPub, net::ZmqOptions::publisher()),
      pump_(loop, [this] { pump(); }),
      greet_(loop),
      wake_(loop),
      beat_(loop),
      announce_(loop),
      renew_(loop),
      care_(loop),
      retry_(loop),
      metrics_(registry),
      signer_(loop, 1),
      writer_(loop, 1),
      reader_(loop, 1) {
  PublisherOptions options;
  options.base = settings.bus.base();
  options.max_waiting_bytes = settings.bus.publish_buffer;
  options.signatures_per_second = settings.bus.signatures_per_second;
  options.beat = kBeat;
  // Epochs are at least the time in milliseconds: one lost with its disk is not given out again.
  const std::uint64_t epoch = journal_->begin_epoch(base::to_ns(loop.now().wall) / 1'000'000);
  core_ = std::make_unique<PublisherCore>(options, stream_, start_tail_, epoch);
  metrics_.last_seq.set(static_cast<double>(start_tail_.last_seq));

  // The first thing that a subscriber of ours subscribes to.
  socket_.on_frame([this](proto::ByteView frame, const net::ZmqSender&) {
    if (frame != proto::ByteView("\1\1")) return;
    greet();
    if (on_subscriber_) on_subscriber_();
  });
  endpoint_ = socket_.bind(settings.bus.publish);
  const auto advertise = [&](proto::EndpointKind kind, const std::string& bound,
                             const std::string& configured) {
    if (std::string address = advertised(bound, configured); !address.empty())
      advertised_.push_back({kind, std::move(address)});
  };
  advertise(proto::EndpointKind::Publish, endpoint_, settings.bus.advertise_publish);
  advertise(proto::EndpointKind::Serve, serve_endpoint, settings.bus.advertise_serve);
  if (const std::string& url =
          settings.bus.advertise_content.empty() ? content : settings.bus.advertise_content;
      !url.empty())
    advertised_.push_back({proto::EndpointKind::Content, url});
  add_verbs(serve);
  for (const std::string& relay : settings.bus.forward) {
    forwarders_.push_back(std::make_unique<Forwarder>(loop, context, settings, relay, stream_,
                                                      *journal_, reader_, registry, log));
    forwarders_.back()->durable(start_tail_.last_seq);
  }
  get_credential();
  care_.start(kCare, [this] { care(); });
}

Publisher::~Publisher() {
  signer_.leave_behind(1s);  // gpg may hang
}

void Publisher::broken(std::exception_ptr error) {
  if (auto tell = std::exchange(on_broken_, nullptr)) tell(error);
}

// ---- credentials ----

void Publisher::get_credential() {
  proto::Credential credential;
  credential.stream = name_;
  credential.epoch = core_->epoch();
  credential.serial = next_serial_;
  const base::WallTime now = loop_.now().wall;
  credential.issued_ns = credential.not_before_ns = base::to_ns(now);
  credential.not_after_ns = base::to_ns(now + settings_.signing.lifetime);
  credential.pin = core_->pin();
  credential.new_journal = start_tail_.last_seq == 0;
  credential.scopes = {settings_.bus.base() + ".**"};
  credential.endpoints = advertised_;
  signer_.submit(
      [credential, identity = settings_.signing.identity()]() mutable {
        // A key may have been renewed since, but it must be the same: others know the stream by it.
        if (identity.fingerprint() != credential.stream.fingerprint)
          throw std::runtime_error(identity.certificate +
                                   " is of another key now; that takes a restart");
        trust::SessionKey key;
        credential.session_key = key.public_key();
        if (const std::int64_t end = identity.expires_s(); end != 0)
          credential.not_after_ns = std::min(credential.not_after_ns,
                                             static_cast<std::uint64_t>(end) * 1'000'000'000);
        if (credential.not_after_ns < credential.not_before_ns)
          throw std::runtime_error("key " + identity.key +
                                   " has expired: extend it or configure another");
        const proto::Bytes document = proto::encode_credential(credential);
        return Signed{credential, {document, identity.sign(document)}, std::move(key)};
      },
      [this](base::Outcome<Signed> made) {
        if (made) return use_credential(std::move(*made));
        // Without any credential there is no publisher; with one there is time to mend it.
        if (!core_->credential()) return broken(made.error());
        try {
          std::rethrow_exception(made.error());
        } catch (const std::exception& error) {
          log_.error("the credential could not be renewed, trying again in 30 s: {}",
                     base::describe(error));
        }
        renew_.start(kRetrySigning, [this] { get_credential(); });
      });
}

void Publisher::use_credential(Signed made) {
  // Journalled, announced, then signed with. The copies are made before `made` is moved from: the
  // order in which two arguments are evaluated is the compiler's choice.
  auto keep = [this, credential = made.credential, sealed = made.sealed] {
    journal_->put_credential(credential, sealed);
  };
  writer_.submit(
      std::move(keep),
      [this, made = std::move(made)](base::Outcome<void> kept) mutable {
        if (!kept) return broken(kept.error());
        const bool first = !core_->credential();
        announcement_ = proto::encode_control(proto::ControlKind::Credential, stream_,
                                              proto::encode_sealed(made.sealed));
        socket_.set_welcome(announcement_);
        announce();
        const std::uint64_t life = made.credential.not_after_ns - made.credential.not_before_ns;
        metrics_.credential_not_after.set(static_cast<double>(made.credential.not_after_ns) / 1e9);
        log_.info("credential {} of epoch {} in use", made.credential.serial,
                  made.credential.epoch);
        core_->use_credential(made.credential, proto::credential_id(made.sealed.document),
                              std::move(made.key));
        ++next_serial_;
        renew_.start(base::Duration(life / 2), [this] { get_credential(); });
        if (first) {
          beat();
          if (auto task = std::exchange(on_ready_, nullptr)) task();
        }
        pump();
      });
}

std::optional<std::string> Publisher::problem() const {
  if (!ready()) return "no valid credential: is the signing key usable without a passphrase?";
  if (disk_full_) return "no space for the journal: nothing is acknowledged until there is";
  return std::nullopt;
}

void Publisher::on_ready(base::Task task) {
  if (core_->credential())
    task();
  else
    on_ready_ = std::move(task);
}

// ---- events ----

std::expected<void, PublishError> Publisher::publish(
    proto::ByteView topic, proto::Bytes body, OnDurable on_durable,
    std::optional<store::SubmissionRecord> submission) {
  if (duplicate_) return std::unexpected(PublishError::NotReady);
  const auto ticket = core_->publish(topic, std::move(body), loop_.now(), std::move(submission));
  if (!ticket) return std::unexpected(ticket.error());
  if (on_durable) waiting_.emplace(*ticket, std::move(on_durable));
  pump_.ask();
  return {};
}

void Publisher::pump() {
  if (duplicate_) return;
  while (auto batch = core_->next_batch(loop_.now())) sealed_.push_back(std::move(*batch));
  journal_next();
  if (const auto wake = core_->wake(loop_.now())) wake_.start_at(*wake, [this] { pump(); });
}

void Publisher::journal_next() {
  if (duplicate_ || !journalling_.empty() || sealed_.empty()) return;
  while (!sealed_.empty() && journalling_.size() < kGroup) {
    rows_.push_back(std::move(sealed_.front().row));
    journalling_.push_back(std::move(sealed_.front()));
    sealed_.pop_front();
  }
  writer_.submit(
      // The loop does not touch the rows until this is done.
      [this] { journal_->append(rows_); },
      [this](base::Outcome<void> kept) {
        if (kept) {
          if (std::exchange(disk_full_, false)) {
            log_.notice("journal: there is space again");
            // While there is: neither retention nor checkpoints got far before, and the journal
            // would be what fills the disk next.
            checkpoint();
            care();
          }
          return journalled(take_back());
        }
        try {
          std::rethrow_exception(kept.error());
        } catch (const std::system_error& error) {
          if (!base::is_disk_full(error)) return broken(kept.error());
          // The same signed bytes again: other bytes under these numbers would be equivocation.
          disk_full_ = true;
          metrics_.disk_full.add();
          log_.error(
              "journal: {}; nothing is acknowledged until there is space, trying every second",
              base::describe(error));
          retry_.start(kRetryDisk, [this] {
            std::vector<SealedBatch> again = take_back();
            for (auto it = again.rbegin(); it != again.rend(); ++it)
              sealed_.push_front(std::move(*it));
            journal_next();
          });
        } catch (...) {
          broken(kept.error());
        }
      });
}

std::vector<SealedBatch> Publisher::take_back() {
  std::vector<SealedBatch> batches = std::exchange(journalling_, {});
  for (std::size_t i = 0; i < batches.size(); ++i) batches[i].row = std::move(rows_[i]);
  rows_.clear();
  return batches;
}

void Publisher::journalled(std::vector<SealedBatch> batches) {
  for (const SealedBatch& batch : batches) {
    core_->durable(batch);
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
      const proto::EventFrame frame = batch.frame(i);
      net::ZmqFrame message(proto::event_frame_size(frame));
      proto::write_event_frame(message.data(), frame);
      if (auto waiting = waiting_.extract(batch.items[i].ticket))
        waiting.mapped()(Position{batch.row.epoch, batch.row.first_seq + i, message.bytes()});
      socket_.send(std::move(message));
    }
    metrics_.events.add(batch.items.size());
    metrics_.batches.add();
  }
  metrics_.last_seq.set(static_cast<double>(core_->last_durable()));
  for (const auto& forwarder : forwarders_) forwarder->durable(core_->last_durable());
  pump();
}

void Publisher::heard(const proto::Head& head) {
  if (!core_->of_another(head)) return;
  metrics_.duplicates.add();
  if (std::exchange(duplicate_, true)) return;
  beat_.cancel();
  greet_.cancel();
  announce_.cancel();
  renew_.cancel();
  forwarders_.clear();
  broken(std::make_exception_ptr(std::runtime_error(fmt::format(
      "duplicate_publisher: another daemon publishes as {} with this key (its epoch {}, ours {}); "
      "stopping here. Give each its own [bus] publisher, or stop one for good",
      name_.publisher, head.epoch, core_->epoch()))));
}

void Publisher::beat() {
  send_head();
  beat_.start(kBeat, [this] { beat(); });
}

void Publisher::send_head() {
  const auto head = core_->head(loop_.now(), oldest_);
  if (!head) return;
  socket_.send(proto::encode_control(proto::ControlKind::Head, stream_, *head));
  for (const auto& forwarder : forwarders_) forwarder->head(*head, core_->credential_id());
}

bool Publisher::handed_over() const {
  return std::ranges::all_of(forwarders_, [](const auto& forwarder) { return forwarder->done(); });
}

// A head for who has just come; the others hear one more.
void Publisher::greet() {
  if (duplicate_ || greet_.running()) return;
  greet_.start(kGreet, [this] {
    send_head();
    greet_.start(kGreetPause, [] {});
  });
}

void Publisher::announce() {
  socket_.send(announcement_);
  announce_.start(kAnnounce, [this] { announce(); });
}

void Publisher::tell_of_damage() {
  const std::uint64_t more = verbs_.damaged() - damaged_told_;
  if (more == 0) return;
  damaged_told_ += more;
  metrics_.damaged.add(more);
  log_.error("the journal is damaged: {} batches asked for are not what was signed, and were left "
             "out; check the disk. Who missed them and finds them nowhere else is told of a gap",
             more);
}

void Publisher::checkpoint() {
  if (!sqlite_) return;
  reader_.submit([this] { sqlite_->checkpoint(); },
                 [this](base::Outcome<void> done) {
                   if (!done && !disk_full_)
                     log_.warning("journal checkpoint failed; it is tried again");
                 });
}

// Retention and checkpoints.
void Publisher::care() {
  tell_of_damage();
  if (sqlite_ && sqlite_->wal_pages() > (idle() ? 0 : kWalPages)) checkpoint();
  const base::WallTime oldest_kept = loop_.now().wall - settings_.bus.retain;
  writer_.submit(
      [this, before = base::to_ns(oldest_kept)] {
        return journal_->prune(before, settings_.bus.retain_bytes);
      },
      [this](base::Outcome<bool> more) {
        reader_.submit([this] { return journal_->tail().oldest_seq; },
                       [this](base::Outcome<std::uint64_t> oldest) {
                         if (oldest) oldest_ = *oldest;
                       });
        // Small steps, so that publishing goes on between them.
        care_.start(more.value_or(false) ? 50ms : kCare, [this] { care(); });
      });
}

// ---- answers ----

void Publisher::add_verbs(ServeServer& serve) {
  for (const char* verb : {"info", "credential", "replay"})
    serve.add(verb, [this](const proto::Request& request, const std::string&, ServeReply reply) {
      answer(request, std::move(reply));
    });
}

void Publisher::answer(const proto::Request& request, ServeReply reply) {
  if (reader_.pending() > 64) return reply.refuse(proto::Reject::Busy, 200);
  reader_.submit([this, request] { return *verbs_.answer(request); },
                 [this, reply = std::move(reply)](base::Outcome<proto::Answer> answer) mutable {
                   if (answer) return reply(std::move(*answer));
                   try {
                     std::rethrow_exception(answer.error());
                   } catch (const std::exception& error) {
                     log_.error("reading the journal: {}", base::describe(error));
                   }
                   reply.refuse(proto::Reject::Unavailable, 1000);
                 });
}

void Publisher::find_submission(
    proto::Bytes sender, std::uint64_t n,
    std::move_only_function<void(std::optional<std::uint64_t>)> done) {
  reader_.submit([this, sender = std::move(sender), n] { return journal_->submission(sender, n); },
                 [this, done = std::move(done)](
                     base::Outcome<std::optional<std::uint64_t>> found) mutable {
                   if (!found) return broken(found.error());
                   done(*found);
                 });
}

}  // namespace mirrorbus::peer
