#include "bus/peer/forwarder.hpp"

#include "bus/net/endpoint.hpp"
#include "bus/peer/journal_damage.hpp"
#include "proto/limits.hpp"

namespace mirrorbus::peer {
namespace {

using namespace std::chrono_literals;
using Kind = proto::ForwardRequest::Kind;
constexpr base::Duration kTellAgain = 60s;

}  // namespace

Forwarder::Forwarder(base::Loop& loop, net::ZmqContext& context, const Settings& settings,
                     const std::string& relay, const proto::Hash& stream, store::Journal& journal,
                     base::WorkerPool& reader, base::Registry& registry, base::Log log)
    : loop_(loop),
      context_(context),
      relay_(relay),
      stream_(stream),
      token_file_(settings.bus.forward_token_file),
      journal_(journal),
      reader_(reader),
      log_(log.area("forward")),
      core_(*this),
      rows_(registry.counter("mirrorbus_forward_batches_total",
                             "Batches handed over to a relay, durable there.", {"relay", relay})),
      lag_(registry.gauge("mirrorbus_forward_lag_events",
                          "Events durable here and not yet, as far as known, at the relay.",
                          {"relay", relay})),
      damaged_(journal_damaged(registry)),
      registry_(registry),
      tick_(loop),
      after_(loop, [this] { after(); }),
      alive_(std::make_shared<bool>(true)) {
  const auto endpoint = net::parse_endpoint(relay);
  if (endpoint && !endpoint->is_literal())
    resolver_ = std::make_unique<net::DnsResolver>(
        loop, net::DnsResolver::Options{settings.discovery.resolvers, 2s, 3});
}

Forwarder::~Forwarder() { *alive_ = false; }

void Forwarder::durable(std::uint64_t last) {
  last_ = last;
  core_.durable(last, loop_.now());
  after_.ask();
}

void Forwarder::head(const proto::Bytes& sealed, const proto::Hash& credential) {
  core_.head(sealed, credential, loop_.now());
  after_.ask();
}

void Forwarder::after() {
  tell();
  if (const auto wake = core_.wake())
    tick_.start_at(*wake, [this] {
      core_.tick(loop_.now());
      after_.ask();
    });
  else
    tick_.cancel();
}

// Once when it begins to fail, once a minute while it does, and once when it is over.
void Forwarder::tell() {
  rows_.add(core_.rows() - counted_rows_);
  counted_rows_ = core_.rows();
  if (const std::uint64_t at = core_.damaged_at();
      at != std::exchange(counted_damage_, at) && at != 0)
    damaged_.add();
  lag_.set(last_ > core_.through() ? static_cast<double>(last_ - core_.through()) : 0);
  const auto trouble = core_.trouble();
  const base::MonoTime now = loop_.now().mono;
  if (trouble && (trouble != told_ || now - told_at_ > kTellAgain)) {
    registry_
        .counter("mirrorbus_forward_troubles_total",
                 "Times that a relay did not take what was handed over, by reason.",
                 {"reason", to_string(*trouble)})
        .add();
    if (core_.damaged_at() != 0)
      log_.error(
          "the journal is damaged: the batch that begins with event {} is not what was "
          "signed. Relay {} gets nothing behind it until `retain` has taken it; check the "
          "disk",
          core_.damaged_at(), relay_);
    else
      log_.warning(
          "relay {} does not take our events: {}; trying again, nothing is lost "
          "meanwhile",
          relay_, to_string(*trouble));
    told_at_ = now;
    told_good_ = false;
  } else if (!trouble && core_.in_order() && !told_good_) {
    log_.notice("relay {} takes our events", relay_);
    told_good_ = true;
  }
  told_ = trouble;
}

// ---- the journal ----

void Forwarder::read(std::uint64_t number, const ForwardRead& read) {
  reader_.submit(
      [&journal = journal_, read] { return forward_read(journal, read); },
      [this, alive = alive_, number](base::Outcome<ForwardFound> found) {
        if (!*alive) return;
        if (found) {
          core_.found(number, std::move(*found), loop_.now());
        } else {
          try {
            std::rethrow_exception(found.error());
          } catch (const std::exception& error) {
            log_.error("reading the journal: {}", base::describe(error));
          }
          core_.failed(proto::Reject::Unavailable, loop_.now());
        }
        after_.ask();
      });
}

// ---- the relay ----

void Forwarder::send(std::uint64_t question, Kind kind, std::vector<proto::Bytes> parts) {
  if (socket_gone_) {
    socket_gone_ = false;
    socket_.reset();
    unsent_.clear();
  }
  // It may have been replaced since.
  if (kind == Kind::Ask && !token_file_.empty()) token_ = read_token(token_file_).value_or("");
  std::vector<proto::Bytes> frames{proto::encode_request(
      {question, "forward", proto::to_args(proto::ForwardRequest{kind, stream_, token_}), {}})};
  for (proto::Bytes& part : parts) frames.push_back(std::move(part));
  if (socket_) {
    socket_->send(std::move(frames));  // what is not taken is missed in time
    return;
  }
  unsent_.push_back(std::move(frames));
  if (unsent_.size() == 1) connect();
}

void Forwarder::connect() {
  if (!resolver_) return connect_to(relay_);
  const auto endpoint = *net::parse_endpoint(relay_);
  resolver_->resolve_host(endpoint.host, [this, alive = alive_, port = endpoint.port](
                                             net::HostAnswer answer) {
    if (!*alive || socket_ || unsent_.empty()) return;
    if (answer.addresses.empty()) {
      log_.warning("no address for relay {}: {}", relay_,
                   answer.error.empty() ? "DNS knows none" : answer.error);
      core_.failed(proto::Reject::Unavailable, loop_.now());
      return after_.ask();
    }
    connect_to(net::tcp_endpoint(answer.addresses[resolved_++ % answer.addresses.size()], port));
  });
}

void Forwarder::connect_to(const std::string& endpoint) {
  net::ZmqOptions options;
  options.reconnect_max = 2s;
  socket_ = std::make_unique<net::ZmqSocket>(loop_, context_, net::ZmqType::Dealer, options);
  socket_->on_message(
      [this](std::vector<proto::Bytes> parts, const net::ZmqSender&) { receive(parts); });
  socket_->on_event([this](const net::ZmqEvent& event) {
    // What was on its way may be lost with the connection: the relay is asked anew, perhaps at its
    // next address.
    if (event.kind == net::ZmqEvent::Kind::Connected) return;
    core_.failed(proto::Reject::Unavailable, loop_.now());
    after_.ask();
  });
  socket_->connect(endpoint);
  for (auto& frames : std::exchange(unsent_, {})) socket_->send(std::move(frames));
}

void Forwarder::receive(const std::vector<proto::Bytes>& parts) {
  const auto answer = proto::decode_answer(parts);
  if (!answer) return;  // then its question runs into its time
  core_.answered(answer->id, answer, loop_.now());
  after_.ask();
}

}  // namespace mirrorbus::peer
