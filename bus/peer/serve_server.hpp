// The serve socket: a ROUTER where small questions are answered. Verbs are registered by whoever
// can answer them; a verb may answer later. Loop thread only. See proto/serve.md.
#pragma once

#include "bus/base/metrics.hpp"
#include "bus/net/zmq_socket.hpp"
#include "proto/serve.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace mirrorbus::peer {

// Answers one request, once; dropping it unanswered answers Unavailable.
class ServeReply {
 public:
  using Send = std::move_only_function<void(proto::Answer)>;
  ServeReply(std::uint64_t id, Send send) : id_(id), send_(std::move(send)) {}
  ServeReply(ServeReply&&) = default;
  ~ServeReply();

  void operator()(proto::Answer answer);
  void refuse(proto::Reject why, std::uint32_t after_ms = 0);

 private:
  std::uint64_t id_;
  Send send_;
};

class ServeServer {
 public:
  // `peer`: the asker's IP address, or ":UID:GID:PID" over ipc.
  using Verb = std::move_only_function<void(const proto::Request& request, const std::string& peer,
                                            ServeReply reply)>;

  // `max_frame_size`: of a request or one of its parts; who sends a bigger one is disconnected.
  ServeServer(base::Loop& loop, net::ZmqContext& context, base::Registry& registry,
              std::size_t max_frame_size = proto::kMaxRequestSize);
  ~ServeServer();

  // Any number of endpoints; the one really bound is returned.
  std::string bind(const std::string& endpoint);
  // Another handler for the same verb takes its place.
  void add(std::string verb, Verb handler);
  // A verb whose requests have parts; others are refused with them.
  void add_with_parts(std::string verb, Verb handler);

 private:
  void receive(std::vector<proto::Bytes> parts, const std::string& peer);

  // At most this many requests are being answered; more get Busy.
  static constexpr std::size_t kMaxUnderWay = 256;

  base::Registry& registry_;
  base::Counter& requests_;
  struct Entry {
    Verb handler;
    bool takes_parts;
  };
  std::map<std::string, Entry, std::less<>> verbs_;
  std::shared_ptr<std::size_t> under_way_;  // shared with replies, which may outlive us
  std::shared_ptr<net::ZmqSocket> socket_;  // likewise
};

}  // namespace mirrorbus::peer
