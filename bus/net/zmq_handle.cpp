#include "bus/net/zmq_handle.hpp"

#include "bus/base/fd.hpp"
#include "bus/net/endpoint.hpp"

#include <algorithm>
#include <climits>
#include <stdexcept>

#include <zmq.h>

namespace mirrorbus::net {
namespace {

static_assert(sizeof(zmq_msg_t) == 64 && alignof(zmq_msg_t) <= 8);

// libzmq numbers its own errors above the system's.
class ZmqCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "zmq"; }
  std::string message(int error) const override { return zmq_strerror(error); }
};

[[noreturn]] void throw_zmq(const std::string& doing) {
  static const ZmqCategory category;
  throw std::system_error(zmq_errno(), category, doing);
}

zmq_msg_t* native(unsigned char* storage) { return reinterpret_cast<zmq_msg_t*>(storage); }
// libzmq's getters take non-const pointers and change nothing.
zmq_msg_t* native(const unsigned char* storage) {
  return reinterpret_cast<zmq_msg_t*>(const_cast<unsigned char*>(storage));
}

int native(ZmqType type) {
  switch (type) {
    case ZmqType::Pub: return ZMQ_PUB;
    case ZmqType::XPub: return ZMQ_XPUB;
    case ZmqType::Sub: return ZMQ_SUB;
    case ZmqType::Router: return ZMQ_ROUTER;
    case ZmqType::Dealer: return ZMQ_DEALER;
    case ZmqType::Pair: return ZMQ_PAIR;
  }
  throw std::logic_error("socket type");
}

int milliseconds(base::Duration duration) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<std::int64_t>(ms, 0, INT_MAX));
}

template <class T>
void set(void* socket, int option, T value, const char* name) {
  if (zmq_setsockopt(socket, option, &value, sizeof value) != 0)
    throw_zmq(std::string("setting ") + name);
}

void set_bytes(void* socket, int option, proto::ByteView value, const char* name) {
  if (zmq_setsockopt(socket, option, value.data(), value.size()) != 0)
    throw_zmq(std::string("setting ") + name);
}

// Only where it is wanted: with it on, libzmq writes every IPv4 address as ::ffff:1.2.3.4.
void choose_family(void* socket, const std::string& endpoint) {
  const auto parsed = parse_endpoint(endpoint);
  const bool v6 = parsed && (parsed->host == "*" || parsed->host.find(':') != std::string::npos);
  set(socket, ZMQ_IPV6, v6 ? 1 : 0, "IPv6");
}

// Smaller frames cost less copied than handed over: that takes two more allocations.
constexpr std::size_t kHandOver = 4096;

// Of each subscriber at its publisher, and of each publisher at its subscriber.
constexpr std::size_t kQueueBytes = 64 << 20;
constexpr int kQueueMessages = 20'000;  // until it is known how large they are

}  // namespace

ZmqContext::ZmqContext(int io_threads) : context_(zmq_ctx_new()) {
  if (!context_) throw_zmq("making a ZeroMQ context");
  zmq_ctx_set(context_, ZMQ_IO_THREADS, io_threads);
  // One SUB socket per publisher: the default of 1023 is a network's size.
  zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, std::min(65535, zmq_ctx_get(context_, ZMQ_SOCKET_LIMIT)));
}

ZmqContext::~ZmqContext() {
  while (zmq_ctx_term(context_) != 0 && zmq_errno() == EINTR) {
  }
}

ZmqOptions ZmqOptions::publisher() {
  ZmqOptions options;
  options.send_hwm = kQueueMessages;
  options.queue_bytes = kQueueBytes;
  options.max_frame_size = proto::kMaxFrameSize;
  options.linger = std::chrono::seconds(1);
  return options;
}

ZmqOptions ZmqOptions::subscriber() {
  ZmqOptions options;
  options.send_hwm = 0;
  options.receive_hwm = kQueueMessages;
  options.queue_bytes = kQueueBytes;
  options.max_frame_size = proto::kMaxFrameSize;
  return options;
}

ZmqFrame::ZmqFrame() { zmq_msg_init(native(storage_)); }
ZmqFrame::ZmqFrame(std::size_t size) {
  if (zmq_msg_init_size(native(storage_), size) != 0) throw_zmq("making a message");
}
ZmqFrame::ZmqFrame(proto::Bytes&& bytes) {
  auto* const kept = new proto::Bytes(std::move(bytes));
  // Called by an I/O thread when the last peer has it.
  const auto free = [](void*, void* hint) { delete static_cast<proto::Bytes*>(hint); };
  if (zmq_msg_init_data(native(storage_), kept->data(), kept->size(), free, kept) != 0) {
    delete kept;
    throw_zmq("making a message");
  }
}
ZmqFrame::~ZmqFrame() { zmq_msg_close(native(storage_)); }

proto::ByteView ZmqFrame::bytes() const {
  zmq_msg_t* const message = native(storage_);
  return {static_cast<const char*>(zmq_msg_data(message)), zmq_msg_size(message)};
}

char* ZmqFrame::data() { return static_cast<char*>(zmq_msg_data(native(storage_))); }

bool ZmqFrame::more() const { return zmq_msg_more(native(storage_)) != 0; }

std::string ZmqFrame::peer_address() const {
  const char* const found = zmq_msg_gets(native(storage_), "Peer-Address");
  std::string_view address = found ? found : "";
  // An IPv4 peer of a socket bound to every address; and what glibc calls the host of a local
  // socket.
  for (const std::string_view prefix : {"::ffff:", "localhost"})
    if (address.starts_with(prefix) && address.size() > prefix.size())
      return std::string(address.substr(prefix.size()));
  return std::string(address);
}

ZmqHandle::ZmqHandle(ZmqContext& context, ZmqType type, const ZmqOptions& o)
    : socket_(zmq_socket(context.native(), native(type))) {
  if (!socket_) throw_zmq("making a ZeroMQ socket");
  try {
    set(socket_, ZMQ_LINGER, milliseconds(o.linger), "linger");
    set(socket_, ZMQ_SNDHWM, o.send_hwm, "send high-water mark");
    set(socket_, ZMQ_RCVHWM, o.receive_hwm, "receive high-water mark");
    set(socket_, ZMQ_MAXMSGSIZE, o.max_frame_size, "greatest message size");
    set(socket_, ZMQ_HEARTBEAT_IVL, milliseconds(o.heartbeat_interval), "heartbeat interval");
    set(socket_, ZMQ_HEARTBEAT_TIMEOUT, milliseconds(o.heartbeat_timeout), "heartbeat timeout");
    set(socket_, ZMQ_HEARTBEAT_TTL, milliseconds(o.heartbeat_timeout), "heartbeat TTL");
    set(socket_, ZMQ_RECONNECT_IVL, milliseconds(o.reconnect_interval), "reconnect interval");
    set(socket_, ZMQ_RECONNECT_IVL_MAX, milliseconds(o.reconnect_max), "reconnect maximum");
    set(socket_, ZMQ_HANDSHAKE_IVL, milliseconds(o.handshake_timeout), "handshake timeout");
    set(socket_, ZMQ_CONNECT_TIMEOUT, milliseconds(o.connect_timeout), "connect timeout");
    if (o.tcp_keepalive) {
      // Firewalls forget idle connections; probe after a minute, give up after 15 s of silence.
      set(socket_, ZMQ_TCP_KEEPALIVE, 1, "keep-alive");
      set(socket_, ZMQ_TCP_KEEPALIVE_IDLE, 60, "keep-alive idle time");
      set(socket_, ZMQ_TCP_KEEPALIVE_INTVL, 5, "keep-alive interval");
      set(socket_, ZMQ_TCP_KEEPALIVE_CNT, 3, "keep-alive count");
      set(socket_, ZMQ_TCP_MAXRT, 15'000, "retransmit limit");
    }
    // Each new subscriber is told of, not only the first of a prefix.
    if (type == ZmqType::XPub) set(socket_, ZMQ_XPUB_VERBOSE, 1, "verbosity");
    if (!o.routing_id.empty()) set_bytes(socket_, ZMQ_ROUTING_ID, o.routing_id, "routing id");
    if (!o.welcome.empty()) set_welcome(o.welcome);
  } catch (...) {
    zmq_close(socket_);
    throw;
  }
}

ZmqHandle::~ZmqHandle() { zmq_close(socket_); }

std::string ZmqHandle::bind(const std::string& endpoint) {
  choose_family(socket_, endpoint);
  if (zmq_bind(socket_, endpoint.c_str()) != 0) throw_zmq("binding " + endpoint);
  char actual[512];
  std::size_t size = sizeof actual;
  if (zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, actual, &size) != 0)
    throw_zmq("asking where " + endpoint + " was bound");
  return actual;
}

void ZmqHandle::unbind(const std::string& endpoint) {
  if (zmq_unbind(socket_, endpoint.c_str()) != 0) throw_zmq("unbinding " + endpoint);
}

void ZmqHandle::connect(const std::string& endpoint) {
  const auto parsed = parse_endpoint(endpoint);
  if (!parsed || !parsed->is_literal())
    throw std::invalid_argument("connecting " + endpoint +
                                ": not an endpoint with a literal address");
  choose_family(socket_, endpoint);
  if (zmq_connect(socket_, endpoint.c_str()) != 0) throw_zmq("connecting " + endpoint);
}

void ZmqHandle::disconnect(const std::string& endpoint) {
  if (zmq_disconnect(socket_, endpoint.c_str()) != 0) throw_zmq("disconnecting " + endpoint);
}

void ZmqHandle::subscribe(proto::ByteView prefix) {
  set_bytes(socket_, ZMQ_SUBSCRIBE, prefix, "subscription");
}

void ZmqHandle::unsubscribe(proto::ByteView prefix) {
  set_bytes(socket_, ZMQ_UNSUBSCRIBE, prefix, "unsubscription");
}

void ZmqHandle::set_welcome(proto::ByteView message) {
  set_bytes(socket_, ZMQ_XPUB_WELCOME_MSG, message, "welcome message");
}

void ZmqHandle::set_send_hwm(int messages) {
  set(socket_, ZMQ_SNDHWM, messages, "send high-water mark");
}

void ZmqHandle::set_receive_hwm(int messages) {
  set(socket_, ZMQ_RCVHWM, messages, "receive high-water mark");
}

namespace {

// Full, or (ROUTER) nobody of that name.
bool refused() { return zmq_errno() == EAGAIN || zmq_errno() == EHOSTUNREACH; }

int send_flags(bool more) { return ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0); }

}  // namespace

bool ZmqHandle::send(proto::ByteView frame, bool more) {
  while (zmq_send(socket_, frame.data(), frame.size(), send_flags(more)) < 0) {
    if (refused()) return false;
    if (zmq_errno() != EINTR) throw_zmq("sending");
  }
  return true;
}

bool ZmqHandle::send(proto::Bytes&& frame, bool more) {
  if (frame.size() < kHandOver) return send(proto::ByteView(frame), more);
  return send(ZmqFrame(std::move(frame)), more);
}

bool ZmqHandle::send(ZmqFrame&& frame, bool more) {
  while (zmq_msg_send(native(frame.storage_), socket_, send_flags(more)) < 0) {
    if (refused()) return false;
    if (zmq_errno() != EINTR) throw_zmq("sending");
  }
  return true;
}

bool ZmqHandle::send(std::vector<proto::Bytes>&& parts) {
  // libzmq accepts or refuses a message by its first frame. If a peer goes away in the middle, the
  // whole message is rolled back, and refused once.
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!send(std::move(parts[i]), i + 1 < parts.size())) return false;
  return true;
}

bool ZmqHandle::receive(ZmqFrame& frame) {
  while (zmq_msg_recv(native(frame.storage_), socket_, ZMQ_DONTWAIT) < 0) {
    if (zmq_errno() == EAGAIN) return false;
    if (zmq_errno() != EINTR) throw_zmq("receiving");
  }
  return true;
}

std::optional<std::vector<proto::Bytes>> ZmqHandle::receive_rest(ZmqFrame& frame,
                                                                 const ZmqOptions::Limits& limits) {
  std::vector<proto::Bytes> parts;
  std::size_t bytes = 0;
  bool fits = true;
  for (;;) {
    bytes += frame.bytes().size();
    fits = fits && parts.size() < limits.parts && bytes <= limits.bytes;
    if (fits)
      parts.emplace_back(frame.bytes());
    else
      parts.clear();
    // A message arrives whole or not at all, so no frame of it can be missing here.
    if (!frame.more() || !receive(frame)) break;
  }
  return fits ? std::optional(std::move(parts)) : std::nullopt;
}

int ZmqHandle::fd() const {
  int fd = -1;
  std::size_t size = sizeof fd;
  if (zmq_getsockopt(socket_, ZMQ_FD, &fd, &size) != 0) throw_zmq("asking for the descriptor");
  return fd;
}

void ZmqHandle::process_commands() {
  int events = 0;
  std::size_t size = sizeof events;
  while (zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size) != 0)
    if (zmq_errno() != EINTR) throw_zmq("asking for events");
}

bool ZmqHandle::wait(bool for_sending, base::Duration timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  zmq_pollitem_t item{socket_, 0, static_cast<short>(for_sending ? ZMQ_POLLOUT : ZMQ_POLLIN), 0};
  for (;;) {
    const base::Duration left = end - std::chrono::steady_clock::now();
    const int ready = zmq_poll(&item, 1, milliseconds(left));
    if (ready > 0) return true;
    if (ready < 0 && zmq_errno() != EINTR) throw_zmq("waiting");
    if (std::chrono::steady_clock::now() >= end) return false;
  }
}

void ZmqHandle::monitor(const std::string& endpoint, int events) {
  if (zmq_socket_monitor(socket_, endpoint.c_str(), events) != 0) throw_zmq("monitoring");
}

void ZmqHandle::stop_monitor() {
  if (zmq_socket_monitor(socket_, nullptr, 0) != 0) throw_zmq("ending the monitor");
}

}  // namespace mirrorbus::net
