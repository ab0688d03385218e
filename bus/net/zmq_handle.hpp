// libzmq's context, options and sockets as owned C++ values. What runs on a loop is a ZmqSocket
// (zmq_socket.hpp), what blocks a BlockingZmqSocket (zmq_blocking.hpp); both stand on a ZmqHandle.
//
// Errors of our own making (an endpoint in use, a bad option) are std::system_error.
#pragma once

#include "bus/base/clock.hpp"
#include "proto/bytes.hpp"
#include "proto/limits.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::net {

// The I/O threads. Outlives every socket made from it; destroying it waits for their linger.
// May be shared by threads.
class ZmqContext {
 public:
  explicit ZmqContext(int io_threads = 1);
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

  void* native() const { return context_; }

 private:
  void* context_;
};

enum class ZmqType { Pub, XPub, Sub, Router, Dealer, Pair };

// The defaults suit a DEALER or ROUTER; publisher() and subscriber() are what the bus uses.
struct ZmqOptions {
  // Messages queued per peer before new ones are dropped (PUB, ROUTER) or refused (DEALER); 0 = no
  // limit. A SUB needs 0: its subscriptions are messages too, and would be dropped silently.
  int send_hwm = 1000;
  int receive_hwm = 1000;
  // PUB and SUB on the loop: the limit follows the sizes of messages, so that a peer's queue holds
  // about so many bytes (see queue_limit.hpp); 0 = it stays as it is.
  std::size_t queue_bytes = 0;
  // A peer that sends a bigger frame is disconnected.
  std::int64_t max_frame_size = proto::kMaxRequestSize;
  // A message of more frames, or more bytes in all, is dropped and counted as malformed.
  struct Limits {
    std::size_t parts = proto::kMaxAnswerParts + 16;
    std::size_t bytes = 2 * proto::kMaxAnswerBytes;
  };
  Limits limits;
  // A peer that is silent for `heartbeat_timeout` is disconnected, and its queue discarded.
  base::Duration heartbeat_interval = std::chrono::seconds(2);
  base::Duration heartbeat_timeout = std::chrono::seconds(6);
  base::Duration reconnect_interval = std::chrono::milliseconds(100);
  base::Duration reconnect_max = std::chrono::seconds(5);
  base::Duration handshake_timeout = std::chrono::seconds(5);
  base::Duration connect_timeout = std::chrono::seconds(2);
  base::Duration linger = base::Duration::zero();  // how long closing waits for what is unsent
  std::string routing_id;                          // DEALER: its name at a ROUTER; empty = any
  proto::Bytes welcome;                            // XPUB: sent to each new subscriber
  bool tcp_keepalive = true;

  static ZmqOptions publisher();
  static ZmqOptions subscriber();
};

// One received frame, reused for the next; its bytes are valid until then. Or one to be sent, written
// in place.
class ZmqFrame {
 public:
  ZmqFrame();
  explicit ZmqFrame(std::size_t size);
  explicit ZmqFrame(proto::Bytes&& bytes);  // without a copy
  ~ZmqFrame();
  ZmqFrame(const ZmqFrame&) = delete;
  ZmqFrame& operator=(const ZmqFrame&) = delete;

  proto::ByteView bytes() const;
  char* data();
  bool more() const;  // another frame of the same message follows
  // Where the sender is: an IP address, for ipc ":UID:GID:PID"; empty if libzmq does not say.
  std::string peer_address() const;

 private:
  friend class ZmqHandle;
  alignas(8) unsigned char storage_[64];  // a zmq_msg_t
};

// A socket, owned. Used by one thread at a time.
class ZmqHandle {
 public:
  ZmqHandle(ZmqContext& context, ZmqType type, const ZmqOptions& options);
  ~ZmqHandle();
  ZmqHandle(const ZmqHandle&) = delete;
  ZmqHandle& operator=(const ZmqHandle&) = delete;

  // The endpoint really bound, with the port the system chose for "tcp://127.0.0.1:*".
  std::string bind(const std::string& endpoint);
  void unbind(const std::string& endpoint);
  // Host names are refused with std::invalid_argument: libzmq would stop its I/O thread to resolve
  // them. Connecting goes on in the background until it succeeds.
  void connect(const std::string& endpoint);
  void disconnect(const std::string& endpoint);
  void subscribe(proto::ByteView prefix);
  void unsubscribe(proto::ByteView prefix);
  void set_welcome(proto::ByteView message);
  // Of the queues there are, too.
  void set_send_hwm(int messages);
  void set_receive_hwm(int messages);

  // None of these blocks. False: would block, or there is no peer to take it.
  bool send(proto::ByteView frame, bool more = false);
  bool send(proto::Bytes&& frame, bool more = false);  // without a copy if it is big
  bool send(std::vector<proto::Bytes>&& parts);        // one message
  bool send(ZmqFrame&& frame, bool more = false);
  bool receive(ZmqFrame& frame);
  // The rest of a message that has begun, with its first frame in front; nothing if it is beyond
  // the limits (it is then used up).
  std::optional<std::vector<proto::Bytes>> receive_rest(ZmqFrame& first,
                                                        const ZmqOptions::Limits& limits);

  int fd() const;           // edge-triggered: see zmq_socket.cpp
  void process_commands();  // what getsockopt(ZMQ_EVENTS) really does
  // False after `timeout` if the socket cannot be received from (or, `for_sending`, sent to).
  bool wait(bool for_sending, base::Duration timeout);
  // Starts events for a Pair that connects to `endpoint` (inproc).
  void monitor(const std::string& endpoint, int events);
  void stop_monitor();

 private:
  void* socket_;
};

}  // namespace mirrorbus::net
