#include "services/relay/forwarded.hpp"

#include <algorithm>
#include <filesystem>

namespace mirrorbus::relay {
namespace {

using namespace std::chrono_literals;
using proto::Reject;
using Kind = proto::ForwardRequest::Kind;
using Place = ForwardedStream::Place;
using State = peer::KnownCredential::State;

constexpr base::Duration kCare = 10s;
constexpr base::Duration kLogPause = 60s;
constexpr std::uint32_t kAgainMs = 200;
constexpr std::uint32_t kAgainCheckMs = 1000;
constexpr std::size_t kMaxWaiting = 4;  // requests for one credential

}  // namespace

Forwarded::Metrics::Metrics(base::Registry& r)
    : streams(
          r.gauge("mirrorbus_forwarded_streams", "Streams that are handed over to this relay.")),
      batches(r.counter("mirrorbus_forwarded_batches_total",
                        "Batches handed over to this relay, durable here.")),
      equivocations(r.counter("mirrorbus_forwarded_equivocations_total",
                              "Batches that contradict what is held of such a stream.")) {}

Forwarded::Forwarded(base::Loop& loop, ForwardedSettings settings, peer::ServeServer& serve,
                     peer::Publisher& publisher, base::Registry& registry, base::Log log,
                     std::function<void(std::exception_ptr)> on_broken)
    : loop_(loop),
      settings_(std::move(settings)),
      publisher_(publisher),
      registry_(registry),
      log_(log.area("forwarded")),
      handlers_{[this](HeldStream&, const store::JournalRow& row) {
                  metrics_.batches.add();
                  sender_.events(row);
                },
                [this](HeldStream& stream) { sender_.changed(stream); },
                [this](HeldStream& stream) { equivocated(stream); }, std::move(on_broken)},
      trust_(loop, settings_.trust, log_,
             [this](const proto::Hash& id, const proto::Decoded<peer::KnownCredential*>& known) {
               judged(id, known);
             }),
      sender_(loop, publisher, trust_, streams_, registry),
      care_(loop),
      metrics_(registry),
      workers_(loop) {
  load();
  add_verbs(serve);
  care_.start(kCare, [this] { care(); });
}

Forwarded::~Forwarded() = default;

void Forwarded::set_rules(ForwardRules rules, Tokens tokens, const peer::TrustSettings& trust) {
  trust_.set_trust(trust);
  settings_.rules = std::move(rules);
  settings_.tokens = std::move(tokens);
}

bool Forwarded::idle() const {
  return std::ranges::all_of(streams_, [](const auto& entry) { return entry.second->idle(); });
}

HeldStream* Forwarded::find(const proto::Hash& id) {
  const auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : it->second.get();
}

// ---- the verb ----

void Forwarded::refuse(peer::ServeReply& reply, Reject why, std::uint32_t after_ms) {
  registry_
      .counter("mirrorbus_forwarded_refused_total",
               "Requests to hand something over that were refused, by reason.",
               {"reason", to_string(why)})
      .add();
  reply.refuse(why, after_ms);
}

// `publisher`: whose stream, once that is known.
std::optional<Reject> Forwarded::may(const std::string& peer, const std::string& token,
                                     const std::string* publisher) {
  if (publisher ? settings_.rules.covers(peer, token, *publisher)
                : settings_.rules.covers(peer, token))
    return std::nullopt;
  const base::MonoTime now = loop_.now().mono;
  base::MonoTime& last = last_logged_[Reject::NotAllowed];
  if (last == base::MonoTime{} || now - last > kLogPause) {
    last = now;
    log_.warning("refused what {} hands over: no [[relay.forward]] rule covers {}",
                 peer.empty() || peer.front() == ':' ? "ipc" + peer : peer,
                 publisher ? *publisher : "it");
  }
  return Reject::NotAllowed;
}

void Forwarded::forward(const proto::Request& request, const std::string& peer,
                        peer::ServeReply reply) {
  const auto what = proto::forward_request(request);
  if (!what) return refuse(reply, what.error());
  const std::string token = settings_.tokens.name_of(what->token);
  if (const auto why = may(peer, token, nullptr)) return refuse(reply, *why);
  if (stopped_) return refuse(reply, Reject::Busy, kAgainCheckMs);
  // Our own has one source.
  if (what->stream == publisher_.stream()) return refuse(reply, Reject::NotAllowed);
  if (what->kind == Kind::Credential)
    return credential(request, *what, peer, token, std::move(reply));
  HeldStream* stream = find(what->stream);
  if (stream)
    if (const auto why = may(peer, token, &stream->name().publisher)) return refuse(reply, *why);
  if (what->kind == Kind::Ask) {
    proto::Answer answer;
    answer.fields = proto::to_fields(stream ? stream->core().how_far() : proto::ForwardAnswer{});
    return reply(std::move(answer));
  }
  // A stream begins with a credential.
  if (!stream) return refuse(reply, Reject::UnknownCredential);
  if (stream->keeps()) return refuse(reply, Reject::Busy, kAgainMs);
  what->kind == Kind::Rows ? rows(request, *stream, peer, std::move(reply))
                           : head(request, *stream, peer, std::move(reply));
}

void Forwarded::credential(const proto::Request& request, const proto::ForwardRequest& what,
                           const std::string& peer, const std::string& token,
                           peer::ServeReply reply) {
  const auto sealed = proto::decode_sealed(request.parts.front());
  if (!sealed) return refuse(reply, sealed.error());
  const auto said = proto::decode_credential(sealed->document);
  if (!said) return refuse(reply, said.error());
  if (said->stream.id() != what.stream) return refuse(reply, Reject::WrongStream);
  if (const auto why = may(peer, token, &said->stream.publisher)) return refuse(reply, *why);
  if (!find(what.stream) && streams_.size() >= kMaxStreams) return refuse(reply, Reject::TooLarge);
  auto& waiting = waiting_[proto::credential_id(sealed->document)];
  if (waiting.size() >= kMaxWaiting) return refuse(reply, Reject::Busy, kAgainCheckMs);
  const auto known = trust_.offer(request.parts.front(), trust_.source(peer));
  if (!known) {
    if (waiting.empty()) waiting_.erase(proto::credential_id(sealed->document));
    return refuse(reply, known.error(), kAgainCheckMs);
  }
  waiting.push_back(std::move(reply));
  if ((*known)->state == State::Good) keep(**known);
}

void Forwarded::rows(const proto::Request& request, HeldStream& stream, const std::string& peer,
                     peer::ServeReply reply) {
  std::size_t waiting = 0;
  for (const auto& [id, other] : streams_) waiting += other->waiting_bytes();
  if (waiting > kMaxWaitingBytes) return refuse(reply, Reject::Busy, kAgainMs);
  HeldStream::Rows taken{{}, 0, std::nullopt, std::move(reply)};
  const peer::SourceId source = trust_.source(peer);
  bool held = false;
  for (const proto::Bytes& part : request.parts) {
    const auto row = trust_.row(part, stream.id(), source);
    const auto place = row ? stream.core().place(row->header, row->serial)
                           : proto::refuse(row.error());
    if (!place) {
      taken.refused = place.error();
      if (place.error() == Reject::Equivocation) equivocated(stream);
      break;
    }
    const bool first = taken.rows.empty();
    if (first) held = *place == Place::Held;
    // What else was in there comes again.
    if (!first && (held != (*place == Place::Held) || *place == Place::AfterHole)) {
      taken.refused = Reject::Busy;
      break;
    }
    if (!held) stream.core().accept(row->header, row->hash, row->serial);
    taken.bytes += part.size();
    taken.rows.push_back({*row, *place, part});
  }
  if (taken.refused)
    registry_
        .counter("mirrorbus_forwarded_refused_total",
                 "Requests to hand something over that were refused, by reason.",
                 {"reason", to_string(*taken.refused)})
        .add();
  stream.add(std::move(taken));
}

void Forwarded::head(const proto::Request& request, HeldStream& stream, const std::string& peer,
                     peer::ServeReply reply) {
  const proto::Bytes& sealed = request.parts.front();
  const auto head = trust_.head(sealed, stream.id(), trust_.source(peer));
  if (!head) return refuse(reply, head.error());
  if (const auto why = stream.core().head(*head, sealed, loop_.now())) {
    if (*why == Reject::Equivocation) equivocated(stream);
    return refuse(reply, *why);
  }
  sender_.changed(stream);
  proto::Answer answer;
  answer.fields = proto::to_fields(stream.core().how_far());
  reply(std::move(answer));
}

// ---- credentials ----

void Forwarded::answer_waiting(const proto::Hash& credential, std::optional<Reject> why) {
  auto waiting = waiting_.extract(credential);
  if (!waiting) return;
  const peer::KnownCredential* known = trust_.find(credential);
  HeldStream* stream = known ? find(known->stream) : nullptr;
  for (peer::ServeReply& reply : waiting.mapped()) {
    if (why || !stream) {
      refuse(reply, why.value_or(Reject::Busy), kAgainMs);
      continue;
    }
    proto::Answer answer;
    answer.fields = proto::to_fields(stream->core().how_far());
    reply(std::move(answer));
  }
}

void Forwarded::judged(const proto::Hash& id,
                       const proto::Decoded<peer::KnownCredential*>& known) {
  if (!known)
    answer_waiting(id, known.error() == Reject::Unavailable ? Reject::Busy : known.error());
  else
    keep(**known);
}

void Forwarded::keep(const peer::KnownCredential& known) {
  HeldStream* stream = find(known.stream);
  if (!stream) return open(known);
  stream->keep(known, [this, id = known.id](std::optional<Reject> why) {
    if (why == Reject::Equivocation)
      if (const peer::KnownCredential* again = trust_.find(id))
        if (HeldStream* of = find(again->stream)) equivocated(*of);
    answer_waiting(id, why);
  });
}

std::string Forwarded::file_of(const proto::Hash& id) const {
  return settings_.folder + "/" + proto::to_hex(id.view()) + ".sqlite";
}

void Forwarded::open(const peer::KnownCredential& known) {
  if (streams_.size() >= kMaxStreams) return answer_waiting(known.id, Reject::TooLarge);
  workers_.writer.submit([file = file_of(known.stream)] { return open_journal(file); },
                         [this, id = known.id](base::Outcome<OpenedJournal> journal) {
                           if (!journal) return handlers_.on_broken(journal.error());
                           const peer::KnownCredential* now = trust_.find(id);
                           if (!now || now->state != State::Good)
                             return answer_waiting(id, Reject::Busy);
                           if (!find(now->stream))
                             opened(now->stream, now->credential.stream, std::move(*journal));
                           keep(*now);
                         });
}

void Forwarded::opened(const proto::Hash& id, const proto::StreamName& name,
                       OpenedJournal journal) {
  streams_[id] =
      std::make_unique<HeldStream>(id, name, std::move(journal), workers_, handlers_, log_);
  metrics_.streams.set(static_cast<double>(streams_.size()));
}

// What was held before a restart. Its newest credential is checked again before it is announced.
void Forwarded::load() {
  std::filesystem::create_directories(settings_.folder);
  for (const auto& entry : std::filesystem::directory_iterator(settings_.folder)) {
    if (entry.path().extension() != ".sqlite" || streams_.size() >= kMaxStreams) continue;
    OpenedJournal journal = open_journal(entry.path());
    if (!journal.newest) continue;  // it ended before the first credential was kept
    const auto credential = proto::decode_credential(journal.newest->document);
    if (!credential || file_of(credential->stream.id()) != entry.path()) continue;
    const proto::Bytes sealed = proto::encode_sealed(*journal.newest);
    const std::uint64_t last = journal.tail.last_seq;
    opened(credential->stream.id(), credential->stream, std::move(journal));
    // A source of its own for each: they are few, and all were believed once.
    if (const auto known = trust_.offer(sealed, trust_.source(entry.path())); !known)
      log_.warning("{} is held, and not believed any more: {}", credential->stream.publisher,
                   to_string(known.error()));
    log_.info("holding the stream of {} through {}", credential->stream.publisher, last);
  }
}

// ---- care ----

void Forwarded::equivocated(HeldStream& stream) {
  metrics_.equivocations.add();
  log_.error("equivocation: the key of {} has sealed two histories; what is held stays",
             stream.name().publisher);
}

void Forwarded::care() {
  const base::WallTime oldest = loop_.now().wall - settings_.retain;
  for (const auto& [id, stream] : streams_)
    stream->care(base::to_ns(oldest), settings_.retain_bytes);
  care_.start(kCare, [this] { care(); });
}

// ---- answers ----

void Forwarded::add_verbs(peer::ServeServer& serve) {
  serve.add_with_parts("forward", [this](const proto::Request& request, const std::string& peer,
                                         peer::ServeReply reply) {
    forward(request, peer, std::move(reply));
  });
  for (const char* verb : {"info", "credential", "replay"})
    serve.add(verb, [this](const proto::Request& request, const std::string&,
                           peer::ServeReply reply) {
      const proto::Value* named = request.args.find("stream");
      const auto id = named ? named->as_hash() : std::nullopt;
      if (request.verb == "credential" && request.args.find("credential"))
        return find_credential(request, std::move(reply));
      HeldStream* stream = id ? find(*id) : nullptr;
      if (!stream) return publisher_.answer(request, std::move(reply));
      if (workers_.reader.pending() > 64) return reply.refuse(Reject::Busy, kAgainMs);
      stream->answer(request, std::move(reply));
    });
}

// By its id: whosever it is.
void Forwarded::find_credential(const proto::Request& request, peer::ServeReply reply) {
  const auto id = request.args.find("credential")->as_hash();
  if (!id || streams_.empty()) return publisher_.answer(request, std::move(reply));
  if (workers_.reader.pending() > 64) return reply.refuse(Reject::Busy, kAgainMs);
  std::vector<HeldStream*> streams;  // none is ever taken away
  for (const auto& [stream, held] : streams_) streams.push_back(held.get());
  workers_.reader.submit(
      [streams = std::move(streams), id = *id]() -> std::optional<proto::SealedCredential> {
        for (HeldStream* stream : streams)
          if (auto sealed = stream->credential(id)) return sealed;
        return std::nullopt;
      },
      [this, request, reply = std::move(reply)](
          base::Outcome<std::optional<proto::SealedCredential>> found) mutable {
        if (!found || !*found) return publisher_.answer(request, std::move(reply));
        proto::Answer answer;
        answer.parts.push_back(proto::encode_sealed(**found));
        reply(std::move(answer));
      });
}

}  // namespace mirrorbus::relay
