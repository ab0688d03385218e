#include "tools/bus_checker.hpp"

#include "bus/net/endpoint.hpp"
#include "bus/peer/subscriber.hpp"
#include "bus/trust/session_key.hpp"

#include <algorithm>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kMostPatience = 4s;
constexpr std::size_t kReplayBytes = 1 << 20;
constexpr std::uint64_t kMostRead = 256 << 20;  // of one journal
constexpr base::Duration kAgain = 200ms;

net::DnsResolver::Options resolver_options(const std::vector<std::string>& servers,
                                           base::Duration patience) {
  net::DnsResolver::Options options;
  options.servers = servers;
  options.timeout = patience / 2;
  options.tries = 2;
  return options;
}

}  // namespace

BusChecker::BusChecker(base::Loop& loop, net::ZmqContext& context, const peer::Settings& settings,
                       base::Duration timeout, base::Task on_done)
    : loop_(loop),
      context_(context),
      settings_(settings),
      begin_(loop.now().mono),
      deadline_(begin_ + timeout),
      patience_(std::min<base::Duration>(timeout / 2, kMostPatience)),
      on_done_(std::move(on_done)),
      resolver_(std::make_unique<net::DnsResolver>(
          loop, resolver_options(settings.discovery.resolvers, patience_))),
      asker_(
          loop, context, [](proto::Reject) {}, patience_),
      verifier_(loop, 1) {}
BusChecker::~BusChecker() = default;

void BusChecker::start() {
  for (const std::string& domain : settings_.discovery.domains) {
    ask_dns(SrvKind::Publishers, domain);
    ask_dns(SrvKind::Sources, domain);
  }
  for (const auto& source : settings_.discovery.fixed) {
    if (!source.publish.empty()) add_static(SrvKind::Publishers, source.publish);
    if (!source.serve.empty()) add_static(SrvKind::Sources, source.serve);
  }
  end_if_nothing_is_open();
}

std::vector<Finding> BusChecker::findings() const {
  std::vector<Finding> sorted = findings_;
  std::ranges::stable_sort(
      sorted, {}, [](const Finding& found) { return std::pair(found.check, found.subject); });
  return sorted;
}

void BusChecker::find(Grade grade, Check check, std::string subject, std::string text) {
  findings_.push_back({grade, check, std::move(subject), std::move(text)});
}

// ---- what is open ----

void BusChecker::open(const std::string& matter, base::Duration patience, Late late) {
  auto& timer = matters_[matter];
  if (!timer) timer = std::make_unique<base::Timer>(loop_);
  timer->start_at(std::min(loop_.now().mono + patience, deadline_),
                  [this, matter, late = std::move(late)] {
                    late();
                    close(matter);
                  });
}

void BusChecker::close(const std::string& matter) {
  if (matters_.erase(matter) > 0) end_if_nothing_is_open();
}

void BusChecker::end_if_nothing_is_open() {
  if (!matters_.empty() || !on_done_) return;
  loop_.post(std::exchange(on_done_, nullptr));
}

// ---- where to look ----

void BusChecker::ask_dns(SrvKind kind, const std::string& domain) {
  using Query = net::DiscoveryCore::Query;
  const auto asked =
      kind == SrvKind::Publishers ? Query::Kind::Publishers : Query::Kind::Sources;
  const std::string name = Query::srv(asked, domain).name;
  open("dns " + name, deadline_ - begin_,
       [this, name] { find(Grade::Wrong, Check::Dns, name, "DNS does not answer in time"); });
  resolver_->resolve_srv(name, [this, kind, name](const net::SrvAnswer& answer) {
    if (!matters_.contains("dns " + name)) return;
    findings_.push_back(judge_srv(kind, name, answer));
    for (const net::SrvRecord& record : answer.records)
      for (const std::string& address : record.addresses)
        if (record.target != ".") add(kind, net::tcp_endpoint(address, record.port));
    close("dns " + name);
  });
}

void BusChecker::add_static(SrvKind kind, const std::string& text) {
  const auto endpoint = net::parse_endpoint(text);
  if (!endpoint || endpoint->is_literal()) return add(kind, text);
  const std::string matter = "dns " + text;
  open(matter, deadline_ - begin_, [this, host = endpoint->host] {
    find(Grade::Wrong, Check::Dns, host, "DNS does not answer in time");
  });
  resolver_->resolve_host(endpoint->host, [this, kind, matter, host = endpoint->host,
                                           port = endpoint->port](const net::HostAnswer& answer) {
    if (!matters_.contains(matter)) return;
    if (answer.status == net::DnsStatus::Failed)
      find(Grade::Wrong, Check::Dns, host, "DNS does not answer: " + answer.error);
    else if (answer.addresses.empty())
      find(Grade::Wrong, Check::Dns, host, "no such host, or none with an address");
    for (const std::string& address : answer.addresses) add(kind, net::tcp_endpoint(address, port));
    close(matter);
  });
}

void BusChecker::add(SrvKind kind, const std::string& endpoint) {
  if (kind == SrvKind::Publishers)
    add_publisher(endpoint);
  else
    add_server(endpoint);
}

void BusChecker::add_publisher(const std::string& endpoint) {
  if (publishers_.contains(endpoint)) return;
  auto socket = std::make_unique<net::ZmqSocket>(loop_, context_, net::ZmqType::Sub,
                                                 net::ZmqOptions::subscriber());
  socket->on_frame(
      [this, endpoint](proto::ByteView frame, const net::ZmqSender&) { hear(endpoint, frame); });
  socket->on_event(
      [this, endpoint](const net::ZmqEvent& event) { connection(endpoint, event.kind); });
  net::ZmqSocket& connecting = *socket;
  publishers_[endpoint] = std::move(socket);
  open("publish " + endpoint, patience_, [this, endpoint] {
    find(Grade::Wrong, Check::Publish, endpoint,
         fmt::format("no connection in {:.1f} s: is the daemon running, does a firewall let it "
                     "through?",
                     base::to_seconds(patience_)));
  });
  connecting.subscribe(proto::ByteView(&proto::kControl, 1));
  try {
    connecting.connect(endpoint);
  } catch (const std::exception& error) {
    find(Grade::Wrong, Check::Publish, endpoint, base::describe(error));
    close("publish " + endpoint);
  }
}

void BusChecker::add_server(const std::string& endpoint) {
  if (!servers_.try_emplace(endpoint).second) return;
  open("serve " + endpoint, deadline_ - begin_,
       [this, endpoint] { find(Grade::Wrong, Check::Serve, endpoint, "no answer in time"); });
  ask(endpoint, "info", {}, [this, endpoint](const proto::Decoded<proto::Answer>& answer,
                                             const std::string&) {
    if (!matters_.contains("serve " + endpoint)) return;
    const auto stream = answer && !answer->refused
                            ? proto::field<proto::Hash>(answer->fields, "stream")
                            : proto::refuse(proto::Reject::Unavailable);
    const auto held = stream ? ServedRange::read(*answer) : std::nullopt;
    if (!answer) {
      find(Grade::Wrong, Check::Serve, endpoint,
           fmt::format("no answer in {:.1f} s: is the daemon running, does a firewall let it "
                       "through?",
                       base::to_seconds(patience_)));
    } else if (answer->refused) {
      find(Grade::Wrong, Check::Serve, endpoint,
           fmt::format("says {}", to_string(*answer->refused)));
    } else if (!held) {
      find(Grade::Wrong, Check::Serve, endpoint, "answers what nobody can read");
    } else {
      servers_[endpoint] = *stream;
      Finding good{Grade::Ok,
                   Check::Serve,
                   endpoint,
                   fmt::format("answers, holds {} to {}", held->oldest, held->last),
                   {{"stream", *stream}}};
      findings_.push_back(std::move(good));
    }
    close("serve " + endpoint);
    for (const auto& [id, one] : streams_) look_at_sequences(id);
  });
}

// ---- what publishers say ----

void BusChecker::connection(const std::string& endpoint, net::ZmqEvent::Kind kind) {
  const std::string matter = "publish " + endpoint;
  if (kind != net::ZmqEvent::Kind::Connected || !matters_.contains(matter)) return;
  open(matter, patience_, [this, endpoint] {
    find(Grade::Wrong, Check::Publish, endpoint,
         fmt::format("connected, but no credential comes in {:.1f} s: is that a publisher?",
                     base::to_seconds(patience_)));
  });
}

void BusChecker::hear(const std::string& endpoint, proto::ByteView bytes) {
  const auto frame = proto::decode_control(bytes);
  if (!frame) return;
  if (frame->kind == proto::ControlKind::Credential)
    hear_credential(endpoint, *frame);
  else
    hear_head(*frame);
}

void BusChecker::hear_credential(const std::string& endpoint, const proto::ControlFrame& frame) {
  const auto sealed = proto::decode_sealed(frame.payload);
  const auto credential =
      sealed ? proto::decode_credential(sealed->document) : proto::refuse(sealed.error());
  if (!credential || credential->stream.id() != frame.stream) return;
  const proto::Hash id = frame.stream;
  auto& stream = streams_[id];
  const bool first = !stream;
  if (first) stream = std::make_unique<Stream>(loop_);
  const auto age = [](const proto::Credential& c) { return std::pair(c.epoch, c.serial); };
  if (first || age(*credential) > age(stream->credential)) {
    stream->credential_id = proto::credential_id(sealed->document);
    stream->credential = *credential;
  }
  if (first) {
    open("head " + proto::to_hex(id), patience_, [this, name = credential->stream.publisher] {
      find(Grade::Wrong, Check::Sequences, name,
           fmt::format("no head in {:.1f} s: the publisher stands still",
                       base::to_seconds(patience_)));
    });
    check_key(id, *sealed);
  }
  if (!matters_.contains("publish " + endpoint)) return;
  find(Grade::Ok, Check::Publish, endpoint, "connected, " + credential->stream.publisher);
  close("publish " + endpoint);
}

void BusChecker::hear_head(const proto::ControlFrame& frame) {
  const auto it = streams_.find(frame.stream);
  if (it == streams_.end() || it->second->head) return;
  Stream& stream = *it->second;
  const auto sealed = proto::sealed_head(frame);
  if (!sealed) return;
  const auto head = proto::decode_head(sealed->bytes);
  // One of a credential that was renewed just now: the next one will do.
  if (!head || head->stream != frame.stream || head->credential != stream.credential_id ||
      !trust::verify_seal(stream.credential.session_key, sealed->bytes, sealed->seal))
    return;
  stream.head = *head;
  findings_.push_back(
      judge_clock(stream.credential.stream.publisher, head->time_ns, loop_.now().wall));
  look_at_sequences(frame.stream);
  close("head " + proto::to_hex(frame.stream));
}

// ---- keys ----

void BusChecker::check_key(const proto::Hash& id, const proto::SealedCredential& sealed) {
  Stream& stream = *streams_[id];
  const std::string& name = stream.credential.stream.publisher;
  if (settings_.trust.allow.empty()) {
    stream.belief = Belief::NobodyToAsk;
    find(Grade::Warning, Check::Keys, name,
         "not checked: there are no [[trust.allow]] rules (--config), nor a --keyring");
    return;
  }
  open("keys " + proto::to_hex(id), deadline_ - begin_,
       [this, name] { find(Grade::Wrong, Check::Keys, name, "gpg does not answer in time"); });
  stream.book.emplace(peer::policy_from(settings_.trust));
  peer::SourceBudget budget;
  const auto known = stream.book->offer(
      proto::encode_sealed(sealed), peer::CredentialBook::Came::Announced, 0, budget, loop_.now());
  if (!known) return refused(id, known.error());
  const proto::Hash credential = (*known)->id;
  if (stream.credential.stream.scheme == proto::Scheme::None)
    return judge_key(id, credential, peer::CredentialVerdict{});
  verifier_.submit([keyring = settings_.trust.keyring(), name = stream.credential.stream,
                    sealed] { return keyring.verify(name, sealed); },
                   [this, id, credential](base::Outcome<proto::Decoded<trust::Verified>> verified) {
                     if (!verified) return refused(id, proto::Reject::Unavailable);
                     if (!*verified) return refused(id, verified->error());
                     judge_key(
                         id, credential,
                         peer::CredentialVerdict{(*verified)->fingerprint, (*verified)->expires_s});
                   });
}

void BusChecker::judge_key(const proto::Hash& id, const proto::Hash& credential,
                           const proto::Decoded<peer::CredentialVerdict>& verdict) {
  Stream& stream = *streams_[id];
  const auto known = stream.book->judge(credential, verdict);
  if (!known) return refused(id, known.error());
  Finding found =
      judge_credential((*known)->credential, verdict->key_expires_s,
                       allowed_topics(settings_.trust, stream.credential.stream), loop_.now().wall);
  stream.belief = found.grade == Grade::Wrong ? Belief::Refused : Belief::Trusted;
  findings_.push_back(std::move(found));
  look_at_sequences(id);
  close("keys " + proto::to_hex(id));
}

void BusChecker::refused(const proto::Hash& id, proto::Reject why) {
  Stream& stream = *streams_[id];
  stream.belief = Belief::Refused;
  findings_.push_back(judge_refused(stream.credential, why, settings_.trust.home));
  close("keys " + proto::to_hex(id));
}

// ---- sequences ----

void BusChecker::look_at_sequences(const proto::Hash& id) {
  Stream& stream = *streams_[id];
  // Who is not believed does not send us anywhere.
  if (stream.belief == Belief::Checking || stream.belief == Belief::Refused || !stream.head ||
      !stream.server.empty())
    return;
  const std::string matter = "sequences " + proto::to_hex(id);
  const std::string name = stream.credential.stream.publisher;
  if (!matters_.contains(matter))
    open(matter, patience_ + kAgain, [this, name] {
      find(Grade::Wrong, Check::Sequences, name,
           "none of the serve endpoints that answer holds its history");
    });
  if (!choose_server(id)) return;
  open(matter, deadline_ - begin_, [this, id] { sequences_found(id); });
  // Once more, for what was said before the head was heard may be older than it.
  ask(stream.server, "info", {{"stream", id}},
      [this, id](const proto::Decoded<proto::Answer>& answer, const std::string&) {
        Stream& asked = *streams_[id];
        if (const auto served =
                answer && !answer->refused ? ServedRange::read(*answer) : std::nullopt) {
          asked.served = *served;
          asked.range.emplace(served->oldest, served->last);
          return read_range(id);
        }
        sequences_found(id);
      });
}

// The publisher's own serve endpoint if it has said one that answers, else who else holds it.
bool BusChecker::choose_server(const proto::Hash& id) {
  Stream& stream = *streams_[id];
  const std::string own(stream.credential.endpoint(proto::EndpointKind::Serve));
  if (!own.empty()) add_server(own);
  if (matters_.contains("serve " + own)) return false;
  for (const auto& [endpoint, held] : servers_)
    if (held == id && (stream.server.empty() || endpoint == own)) stream.server = endpoint;
  return !stream.server.empty();
}

void BusChecker::read_range(const proto::Hash& id) {
  Stream& stream = *streams_[id];
  // A fifth of the time is left to the others.
  const bool late = loop_.now().mono > deadline_ - (deadline_ - begin_) / 5;
  if (stream.range->done() || late || stream.range->bytes() > kMostRead) return sequences_found(id);
  ask(stream.server, "replay",
      proto::to_args({id, stream.range->next(), stream.served.last, "", kReplayBytes}),
      [this, id](const proto::Decoded<proto::Answer>& answer, const std::string&) {
        range_answered(id, answer);
      });
}

void BusChecker::range_answered(const proto::Hash& id,
                                const proto::Decoded<proto::Answer>& answer) {
  Stream& stream = *streams_[id];
  if (!matters_.contains("sequences " + proto::to_hex(id))) return;
  if (answer && answer->refused == proto::Reject::Busy)
    return stream.again.start(
        std::max<base::Duration>(kAgain, std::chrono::milliseconds(answer->after_ms)),
        [this, id] { read_range(id); });
  if (answer) stream.range->take(*answer);
  answer ? read_range(id) : sequences_found(id);
}

void BusChecker::sequences_found(const proto::Hash& id) {
  Stream& stream = *streams_[id];
  const std::string& name = stream.credential.stream.publisher;
  if (!matters_.contains("sequences " + proto::to_hex(id))) return;
  if (stream.range)
    findings_.push_back(
        judge_sequences(name, *stream.head, stream.server, stream.served, *stream.range));
  else
    find(Grade::Wrong, Check::Sequences, name, stream.server + " no longer answers");
  close("sequences " + proto::to_hex(id));
}

void BusChecker::ask(const std::string& endpoint, const std::string& verb, const proto::Map& args,
                     peer::Asker::OnAnswer on_answer) {
  try {
    return asker_.ask(endpoint, verb, args, std::move(on_answer));
  } catch (const std::system_error&) {
    // A credential may advertise what libzmq cannot connect to.
    loop_.post([on_answer = std::move(on_answer)]() mutable {
      on_answer(proto::refuse(proto::Reject::Unavailable), {});
    });
  }
}

}  // namespace mirrorbus::tools
