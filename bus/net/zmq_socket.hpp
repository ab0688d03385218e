// A ZeroMQ socket on the loop: messages come as callbacks, sending never blocks. The only place
// that knows ZMQ_FD.
//
// Loop thread only. Callbacks may send, connect, or destroy the socket.
#pragma once

#include "bus/base/loop.hpp"
#include "bus/net/zmq_handle.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mirrorbus::net {

// What is known of a message's sender; valid during the callback.
class ZmqSender {
 public:
  explicit ZmqSender(const ZmqFrame& frame) : frame_(frame) {}
  // An IP address, for ipc ":UID:GID:PID"; empty if libzmq does not say. Costs a look-up.
  std::string address() const { return frame_.peer_address(); }

 private:
  const ZmqFrame& frame_;
};

struct ZmqEvent {
  enum class Kind { Connected, Disconnected, HandshakeFailed, Retrying };
  Kind kind;
  std::string endpoint;  // ours where we are bound, the peer's where we connect
};

class ZmqSocket {
 public:
  using OnFrame = std::move_only_function<void(proto::ByteView frame, const ZmqSender& sender)>;
  using OnMessage =
      std::move_only_function<void(std::vector<proto::Bytes> parts, const ZmqSender& sender)>;
  using OnEvent = std::move_only_function<void(const ZmqEvent& event)>;

  ZmqSocket(base::Loop& loop, ZmqContext& context, ZmqType type, const ZmqOptions& options);
  ~ZmqSocket();
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  // How to hand over what arrives: without either it is received and dropped. on_frame takes
  // messages of one frame, valid during the callback, and no copy is made; others count as
  // malformed().
  void on_frame(OnFrame callback);
  void on_message(OnMessage callback);
  // After each run of such callbacks, when nothing more is waiting or others get their turn.
  void on_drained(base::Task callback);
  // Peers coming and going.
  void on_event(OnEvent callback);

  // As ZmqHandle's.
  std::string bind(const std::string& endpoint);
  void unbind(const std::string& endpoint);
  void connect(const std::string& endpoint);
  void disconnect(const std::string& endpoint);
  void subscribe(proto::ByteView prefix);
  void unsubscribe(proto::ByteView prefix);
  void set_welcome(proto::ByteView message);

  // False: not taken, the peer's queue is full or there is no peer. PUB and ROUTER drop instead.
  bool send(proto::ByteView frame);
  bool send(const char* frame) { return send(proto::ByteView(frame)); }
  bool send(proto::Bytes&& frame);
  bool send(std::vector<proto::Bytes> parts);
  bool send(ZmqFrame&& frame);

  std::uint64_t malformed() const;  // messages dropped for their number of frames

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the drain under way, whose callback may destroy us
};

}  // namespace mirrorbus::net
