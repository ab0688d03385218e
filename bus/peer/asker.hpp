// Asks questions on other peers' serve sockets and brings the answers back. Loop thread only.
#pragma once

#include "bus/net/zmq_socket.hpp"
#include "proto/limits.hpp"
#include "proto/serve.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

namespace mirrorbus::peer {

class Asker {
 public:
  // `from`: where whoever answered was, as net::ZmqSender::address(); empty: nobody answered.
  using OnAnswer =
      std::move_only_function<void(proto::Decoded<proto::Answer>, const std::string& from)>;

  // `on_unreadable`: told why an answer could not be read; whose it was is not known then.
  using OnUnreadable = std::move_only_function<void(proto::Reject)>;
  Asker(base::Loop& loop, net::ZmqContext& context, OnUnreadable on_unreadable,
        base::Duration timeout = std::chrono::seconds(5));
  ~Asker();

  // Unavailable if no answer comes in time, or before the connection breaks; or what the answer was
  // refused for as an answer. Throws if libzmq cannot connect to the endpoint; `on_answer` is as it
  // was then.
  void ask(const std::string& endpoint, const std::string& verb, const proto::Map& args,
           OnAnswer&& on_answer);

 private:
  struct Waiting {
    base::MonoTime until;
    std::string endpoint;
    OnAnswer on_answer;
  };
  net::ZmqSocket& socket_to(const std::string& endpoint);
  void receive(const std::vector<proto::Bytes>& parts, const std::string& from);
  void lost(std::string endpoint);
  void expire();

  static constexpr std::size_t kMaxSockets = 64;

  base::Loop& loop_;
  net::ZmqContext& context_;
  OnUnreadable on_unreadable_;
  const base::Duration timeout_;
  base::Timer expire_;
  std::map<std::string, std::unique_ptr<net::ZmqSocket>> sockets_;  // by endpoint
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Waiting> waiting_;
};

}  // namespace mirrorbus::peer
