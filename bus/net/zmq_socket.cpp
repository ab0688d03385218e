// The descriptor libzmq gives is edge-triggered and says only "something happened inside": messages
// may wait without it being readable. Hence the rules here, each found by a program that hung:
//   - when it fires, receive until there is nothing more, and only then wait again;
//   - but give others their turn after a budget, and come back by a posted task, not the
//   descriptor;
//   - after a send look again: sending takes in what the descriptor would have told of;
//   - look once at the start: things may have happened before the first wait;
//   - never close it: the watch lets go of it before the socket closes.
#include "bus/net/zmq_socket.hpp"

#include "bus/net/queue_limit.hpp"

#include <atomic>
#include <cstring>
#include <optional>

#include <fmt/core.h>
#include <zmq.h>

namespace mirrorbus::net {
namespace {

constexpr int kBudgetMessages = 512;
constexpr base::Duration kBudgetTime = std::chrono::milliseconds(2);
constexpr int kClockEvery = 16;  // messages between two looks at the clock

constexpr int kFailures = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
constexpr int kEvents =
    ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED | kFailures;

std::optional<ZmqEvent::Kind> event_kind(int event) {
  if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return ZmqEvent::Kind::Connected;
  if (event == ZMQ_EVENT_DISCONNECTED) return ZmqEvent::Kind::Disconnected;
  if (event == ZMQ_EVENT_CONNECT_RETRIED) return ZmqEvent::Kind::Retrying;
  if (event & kFailures) return ZmqEvent::Kind::HandshakeFailed;
  return std::nullopt;
}

}  // namespace

struct ZmqSocket::State : std::enable_shared_from_this<State> {
  State(base::Loop& l, ZmqContext& c, ZmqType t, const ZmqOptions& options)
      : loop(l), context(c), type(t), limits(options.limits), look(l, [this] { drain(); }) {
    handle.emplace(context, type, options);
    const bool sends = t == ZmqType::Pub || t == ZmqType::XPub;
    if (options.queue_bytes > 0)
      queue.emplace(options.queue_bytes, sends ? options.send_hwm : options.receive_hwm);
  }

  base::Loop& loop;
  ZmqContext& context;
  const ZmqType type;
  const ZmqOptions::Limits limits;
  std::optional<ZmqHandle> handle;  // empty once the owner is gone
  std::optional<base::FdWatch> watch;
  std::optional<QueueLimit> queue;  // ours as a publisher, or as a subscriber
  ZmqFrame frame;
  OnFrame on_frame;
  OnMessage on_message;
  base::Task on_drained;
  std::unique_ptr<ZmqSocket> monitor;
  std::uint64_t malformed = 0;
  base::Later look;

  void begin() {
    watch.emplace(loop, handle->fd(), [this](bool, bool) { drain(); });
    watch->want(true, false);
    look_again();
  }

  void look_again() { look.ask(); }

  void drain() {
    if (!handle) return;
    if (type == ZmqType::Pub) {  // it cannot receive; subscriptions are taken in all the same
      handle->process_commands();
      return;
    }
    const auto self = shared_from_this();
    const auto end = std::chrono::steady_clock::now() + kBudgetTime;
    int taken = 0;
    while (handle->receive(frame)) {
      hand_over();
      if (!handle) return;
      ++taken;
      if (taken == kBudgetMessages ||
          (taken % kClockEvery == 0 && std::chrono::steady_clock::now() >= end)) {
        look_again();
        break;
      }
    }
    if (taken > 0 && on_drained) on_drained();
  }

  void hand_over() {
    if (on_frame && !frame.more()) {
      if (queue && type == ZmqType::Sub)
        if (const auto limit = queue->passed(frame.bytes().size())) handle->set_receive_hwm(*limit);
      on_frame(frame.bytes(), ZmqSender(frame));
      return;
    }
    auto parts = handle->receive_rest(frame, on_frame ? ZmqOptions::Limits{0, 0} : limits);
    if (!parts)
      ++malformed;
    else if (on_message)
      on_message(std::move(*parts), ZmqSender(frame));
  }
};

ZmqSocket::ZmqSocket(base::Loop& loop, ZmqContext& context, ZmqType type, const ZmqOptions& options)
    : state_(std::make_shared<State>(loop, context, type, options)) {
  state_->begin();
}

ZmqSocket::~ZmqSocket() {
  if (state_->monitor) state_->handle->stop_monitor();
  state_->monitor.reset();
  state_->watch.reset();
  state_->handle.reset();
}

void ZmqSocket::on_frame(OnFrame callback) { state_->on_frame = std::move(callback); }
void ZmqSocket::on_message(OnMessage callback) { state_->on_message = std::move(callback); }
void ZmqSocket::on_drained(base::Task callback) { state_->on_drained = std::move(callback); }

void ZmqSocket::on_event(OnEvent callback) {
  // A number, not our address: libzmq lets go of a closed socket's name only some time later.
  static std::atomic<std::uint64_t> number{0};
  const std::string endpoint = fmt::format("inproc://mirrorbus-monitor-{}", ++number);
  state_->handle->monitor(endpoint, kEvents);
  ZmqOptions options;
  // libzmq's I/O thread blocks when this queue is full: better a long queue while we are busy.
  options.receive_hwm = 0;
  state_->monitor =
      std::make_unique<ZmqSocket>(state_->loop, state_->context, ZmqType::Pair, options);
  state_->monitor->on_message(
      [callback = std::move(callback)](std::vector<proto::Bytes> parts, const ZmqSender&) mutable {
        // Event number (16 bits) and value (32 bits) in the machine's order, then the endpoint.
        if (parts.size() != 2 || parts[0].size() != 6) return;
        std::uint16_t number = 0;
        std::memcpy(&number, parts[0].data(), sizeof number);
        if (const auto kind = event_kind(number)) callback({*kind, std::move(parts[1])});
      });
  state_->monitor->connect(endpoint);
}

std::string ZmqSocket::bind(const std::string& endpoint) { return state_->handle->bind(endpoint); }
void ZmqSocket::unbind(const std::string& endpoint) { state_->handle->unbind(endpoint); }

// Each of these, too, may take in what the descriptor would have told of.
void ZmqSocket::connect(const std::string& endpoint) {
  state_->handle->connect(endpoint);
  state_->look_again();
}
void ZmqSocket::disconnect(const std::string& endpoint) {
  state_->handle->disconnect(endpoint);
  state_->look_again();
}
void ZmqSocket::subscribe(proto::ByteView prefix) {
  state_->handle->subscribe(prefix);
  state_->look_again();
}
void ZmqSocket::unsubscribe(proto::ByteView prefix) {
  state_->handle->unsubscribe(prefix);
  state_->look_again();
}
void ZmqSocket::set_welcome(proto::ByteView message) {
  state_->handle->set_welcome(message);
  state_->look_again();
}

bool ZmqSocket::send(proto::ByteView frame) {
  state_->look_again();
  return state_->handle->send(frame);
}
bool ZmqSocket::send(proto::Bytes&& frame) {
  state_->look_again();
  return state_->handle->send(std::move(frame));
}
bool ZmqSocket::send(std::vector<proto::Bytes> parts) {
  state_->look_again();
  return state_->handle->send(std::move(parts));
}

bool ZmqSocket::send(ZmqFrame&& frame) {
  state_->look_again();
  if (state_->queue)
    if (const auto limit = state_->queue->passed(frame.bytes().size()))
      state_->handle->set_send_hwm(*limit);
  return state_->handle->send(std::move(frame));
}

std::uint64_t ZmqSocket::malformed() const { return state_->malformed; }

}  // namespace mirrorbus::net
