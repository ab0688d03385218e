#include "bus/peer/subscriber.hpp"

#include "bus/peer/refused.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::peer {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kTick = 50ms;
constexpr int kTicksPerSave = 20;      // one second
constexpr int kTicksPerWatch = 10;     // a revocation takes effect well within two seconds
constexpr base::Duration kLogPause = 60s;
constexpr base::Duration kGivenUp = 1s;  // libzmq says much sooner that it tries again

store::Cursors load(const std::unique_ptr<store::CursorStore>& store) {
  return store ? store->load() : store::Cursors{};
}

}  // namespace

trust::Policy policy_from(const TrustSettings& settings) {
  std::vector<trust::Rule> rules;
  for (const AllowSettings& allow : settings.allow) {
    trust::Rule rule;
    for (const std::string& text : allow.topics) {
      auto pattern = proto::TopicPattern::parse(text);
      if (!pattern)
        throw std::runtime_error("[[trust.allow]] topics: \"" + text + "\" is not a topic pattern");
      rule.topics.push_back(std::move(*pattern));
    }
    for (const std::string& text : allow.keys) {
      const auto key = trust::KeyName::parse(text);
      if (!key)
        throw std::runtime_error("[[trust.allow]] keys: \"" + text +
                                 "\" is not a full fingerprint");
      rule.keys.push_back(*key);
    }
    rule.publishers = allow.publishers;
    rule.unsigned_streams = allow.unsigned_streams;
    rules.push_back(std::move(rule));
  }
  return trust::Policy(std::move(rules));
}

Subscriber::Subscriber(base::Loop& loop, net::ZmqContext& context, SubscriberOptions options,
                       const TrustSettings& trust, const std::string& cursor_file,
                       base::Registry& registry, base::Log log, Handlers handlers)
    : loop_(loop),
      context_(context),
      registry_(registry),
      log_(log.area("subscriber")),
      handlers_(std::move(handlers)),
      cursor_store_(cursor_file.empty() ? nullptr
                                        : std::make_unique<store::CursorStore>(cursor_file)),
      saved_(load(cursor_store_)),
      core_(std::move(options), policy_from(trust), saved_, *this),
      asker_(loop, context, [this](proto::Reject why) { count_refused(registry_, why); }),
      tick_(loop),
      checker_(loop, trust, log_),
      cursor_writer_(loop, 1) {
  tick();
}

Subscriber::~Subscriber() = default;

// ---- endpoints ----

SourceId Subscriber::source_id(const std::string& endpoint) {
  return source_ids_.try_emplace(endpoint, static_cast<SourceId>(source_ids_.size())).first->second;
}

void Subscriber::add_publisher(const std::string& endpoint) {
  if (!endpoints_.insert(endpoint).second) return;
  connect(endpoint);
  log_.info("connecting to publisher {}", endpoint);
}

void Subscriber::connect(const std::string& endpoint) {
  auto socket = std::make_unique<net::ZmqSocket>(loop_, context_, net::ZmqType::Sub,
                                                 net::ZmqOptions::subscriber());
  socket->on_frame(
      [this, source = source_id(endpoint)](proto::ByteView frame, const net::ZmqSender&) {
        if (const auto why = core_.frame(frame, source, loop_.now())) {
          // Once a minute per reason: a flood of refusals must not become a flood of lines.
          base::MonoTime& last = last_logged_[*why];
          const base::MonoTime now = loop_.now().mono;
          if (last == base::MonoTime{} || now - last > kLogPause) {
            last = now;
            log_.info("refused a frame: {}; further ones are only counted for a minute",
                      to_string(*why));
          }
        }
      });
  // Whole segments only: what is under the prefix, or exactly it.
  const std::string& prefix = core_.prefix();
  socket->subscribe(proto::ByteView(&proto::kControl, 1));
  if (prefix.empty()) {
    socket->subscribe("");
  } else {
    socket->subscribe(prefix + ".");
    socket->subscribe(prefix + std::string(1, '\0'));
  }
  socket->on_event(
      [this, endpoint](const net::ZmqEvent& event) { connection_event(endpoint, event.kind); });
  socket->connect(endpoint);
  connections_.erase(endpoint);
  connections_.try_emplace(endpoint, loop_, std::move(socket));
}

void Subscriber::connection_event(const std::string& endpoint, net::ZmqEvent::Kind kind) {
  using Kind = net::ZmqEvent::Kind;
  base::Timer& given_up = connections_.at(endpoint).given_up;
  if (kind == Kind::Connected || kind == Kind::Retrying) return given_up.cancel();
  given_up.start(kGivenUp, [this, endpoint] {
    registry_
        .counter("mirrorbus_connections_broken_total",
                 "Connections to publishers that ended by what came: too large, or not ZeroMQ.")
        .add();
    log_.warning("what came from publisher {} is too large or not ZeroMQ; connecting anew",
                 endpoint);
    connect(endpoint);
  });
}

void Subscriber::remove_publisher(const std::string& endpoint) {
  if (endpoints_.erase(endpoint) == 0) return;
  connections_.erase(endpoint);
  log_.info("publisher {} is no longer listed; disconnected", endpoint);
}

void Subscriber::set_serve_endpoints(std::vector<std::string> endpoints) {
  serve_endpoints_ = std::move(endpoints);
}

// ---- what the core wants done ----

void Subscriber::gap(const Gap& gap) {
  log_.warning("lost from {}: epoch {}, {} to {} ({})", gap.stream.publisher, gap.epoch, gap.from,
               gap.to ? std::to_string(*gap.to) : "unknown", to_string(gap.reason));
  if (handlers_.on_gap) handlers_.on_gap(gap);
}

void Subscriber::check_credential(const KnownCredential& known) {
  const proto::Hash id = known.id;
  const auto judged = [this, id, name = known.credential.stream](
                          const proto::Decoded<CredentialVerdict>& verdict) {
    if (const auto why = core_.judged(id, verdict, loop_.now())) {
      log_.warning("refused the credential of {} ({}): {}", name.publisher,
                   proto::to_hex(name.fingerprint), to_string(*why));
      return;
    }
    const proto::Credential& credential = core_.credential(id)->credential;
    log_.info("{} ({}) epoch {} is trusted", name.publisher, proto::to_hex(name.fingerprint),
              credential.epoch);
    if (handlers_.on_credential) handlers_.on_credential(core_.credential(id)->stream, credential);
  };
  checker_.check(known, judged);
}

// The publisher itself first, then whoever else may hold its history.
std::vector<std::string> Subscriber::sources_of(const proto::Hash& stream) const {
  std::vector<std::string> sources;
  if (const proto::Credential* credential = core_.current_credential(stream))
    if (const auto own = credential->endpoint(proto::EndpointKind::Serve); !own.empty())
      sources.emplace_back(own);
  for (const std::string& endpoint : serve_endpoints_)
    if (std::ranges::find(sources, endpoint) == sources.end()) sources.push_back(endpoint);
  return sources;
}

namespace {
std::string nth(const std::vector<std::string>& sources, std::uint32_t attempt) {
  return sources.empty() ? std::string() : sources[attempt % sources.size()];
}
}  // namespace

void Subscriber::ask_at(const std::string& source, const std::string& verb, const proto::Map& args,
                        Asker::OnAnswer on_answer) {
  if (!source.empty()) {
    try {
      return asker_.ask(source, verb, args, std::move(on_answer));
    } catch (const std::exception& error) {
      // A credential may advertise what libzmq cannot connect to.
      log_.warning("cannot ask {}: {}", source, base::describe(error));
    }
  }
  loop_.post([on_answer = std::move(on_answer)]() mutable {
    if (on_answer) on_answer(proto::refuse(proto::Reject::Unavailable), {});
  });
}

void Subscriber::ask(const proto::Hash& stream, std::uint32_t attempt, const std::string& verb,
                     const proto::Map& args, Asker::OnAnswer on_answer) {
  ask_at(nth(sources_of(stream), attempt), verb, args, std::move(on_answer));
}

void Subscriber::offer_credential(proto::ByteView sealed, const std::string& source) {
  if (const auto why = core_.offer(sealed, source_id(source), loop_.now()))
    log_.info("refused a credential that {} handed on: {}", source, to_string(*why));
}

std::optional<proto::Bytes> Subscriber::sealed_credential(const proto::Hash& id) const {
  const KnownCredential* known = core_.credential(id);
  if (!known || known->state != KnownCredential::State::Good) return std::nullopt;
  return proto::encode_sealed(known->sealed);
}

void Subscriber::ask(const Question& question) {
  const std::string source = nth(sources_of(question.stream), question.attempt);
  ask_at(source, question.verb, question.args,
         [this, id = question.id, from = source_id(source)](proto::Decoded<proto::Answer> answer,
                                                            const std::string&) {
           core_.answered(id, std::move(answer), from, loop_.now());
         });
}

// ---- time ----

void Subscriber::tick() {
  tick_.start(kTick, [this] { tick(); });
  core_.tick(loop_.now());
  if (handlers_.on_credential) tell_joined();
  ++ticks_;
  if (ticks_ % kTicksPerWatch == 0) watch_keyring();
  if (ticks_ % kTicksPerSave == 0) {
    export_counts();
    store::Cursors cursors = core_.cursors();
    if (!cursor_store_ || saving_ || cursors == saved_) return;
    saving_ = true;
    saved_ = cursors;
    cursor_writer_.submit(
        [this, cursors = std::move(cursors)] { cursor_store_->save(cursors); },
        [this](base::Outcome<void> done) {
          saving_ = false;
          if (!done) {
            saved_.clear();
            log_.error("the cursor could not be written; it is tried again each second");
          }
        });
  }
}

void Subscriber::tell_joined() {
  for (const StreamInfo& info : streams()) {
    if (info.state == StreamState::Joining || !joined_.insert(info.id).second) continue;
    if (const proto::Credential* credential = current_credential(info.id))
      handlers_.on_credential(info.id, *credential);
  }
}

void Subscriber::save_cursor() {
  if (!cursor_store_) return;
  cursor_writer_.wait_idle();
  cursor_store_->save(core_.cursors());
}

void Subscriber::watch_keyring() {
  if (checker_.changed()) core_.set_policy(policy_from(checker_.trust()));
}

void Subscriber::set_trust(const TrustSettings& trust) {
  trust::Policy policy = policy_from(trust);  // throws before anything has changed
  checker_.set_trust(trust);
  core_.set_policy(std::move(policy));
}

void Subscriber::export_counts() {
  const SubscriberCounts& now = core_.counts();
  const auto grown = [&](const char* name, const char* help,
                         std::uint64_t SubscriberCounts::*member) {
    registry_.counter(name, help).add(now.*member - exported_.*member);
  };
  grown("mirrorbus_events_received_total", "Events delivered, verified and in order.",
        &SubscriberCounts::delivered);
  grown("mirrorbus_events_filtered_total", "Events passed over by the local filter.",
        &SubscriberCounts::filtered);
  grown("mirrorbus_policy_denied_total", "Verified events that policy or scope deny.",
        &SubscriberCounts::denied);
  grown("mirrorbus_events_undecodable_total", "Verified events whose body nobody can read.",
        &SubscriberCounts::undecodable);
  grown("mirrorbus_duplicates_total", "Events that had been seen.", &SubscriberCounts::duplicates);
  grown("mirrorbus_gaps_total", "Gap notices.", &SubscriberCounts::gaps);
  grown("mirrorbus_unrecoverable_events_total", "Events named lost in gap notices.",
        &SubscriberCounts::gap_events);
  grown("mirrorbus_replay_requests_total", "Replays asked for.", &SubscriberCounts::replays);
  grown("mirrorbus_replayed_events_total", "Events taken from replays.",
        &SubscriberCounts::replayed);
  grown("mirrorbus_credential_checks_total", "Times that a credential's signature was checked.",
        &SubscriberCounts::checks);
  grown("mirrorbus_source_cuts_total",
        "Streams cut at an endpoint for a while: too much did not verify.",
        &SubscriberCounts::cuts);
  grown("mirrorbus_heads_total", "Heads accepted.", &SubscriberCounts::heads);
  for (std::size_t i = 0; i < now.refused.size(); ++i)
    if (const std::uint64_t more = now.refused[i] - exported_.refused[i])
      count_refused(registry_, static_cast<proto::Reject>(i), more);
  exported_ = now;
  registry_
      .gauge("mirrorbus_credential_check_running_seconds",
             "How long the check of a credential that is under way has taken; 0: none is.")
      .set(std::chrono::duration<double>(checker_.running()).count());
  for (const StreamInfo& info : streams()) {
    registry_
        .gauge("mirrorbus_head_age_seconds", "Since the last head of this publisher.",
               {"publisher", info.name.publisher})
        .set(std::chrono::duration<double>(info.head_age).count());
    registry_
        .gauge("mirrorbus_consumer_lag_events",
               "Events of this publisher known of and not yet had.",
               {"publisher", info.name.publisher})
        .set(info.wanted > info.position ? static_cast<double>(info.wanted - info.position) : 0);
  }
}

}  // namespace mirrorbus::peer
