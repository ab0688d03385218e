// A ZeroMQ socket for command-line tools and worker threads: waits, with a deadline. One thread.
#pragma once

#include "bus/net/zmq_handle.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::net {

class BlockingZmqSocket {
 public:
  BlockingZmqSocket(ZmqContext& context, ZmqType type, const ZmqOptions& options)
      : limits_(options.limits), handle_(context, type, options) {}

  std::string bind(const std::string& endpoint) { return handle_.bind(endpoint); }
  void connect(const std::string& endpoint) { handle_.connect(endpoint); }
  void disconnect(const std::string& endpoint) { handle_.disconnect(endpoint); }
  void subscribe(proto::ByteView prefix) { handle_.subscribe(prefix); }

  // False after `timeout`: nobody took it.
  bool send(std::vector<proto::Bytes> parts, base::Duration timeout);
  // One message, or nothing after `timeout`. Messages beyond the limits are passed over.
  std::optional<std::vector<proto::Bytes>> receive(base::Duration timeout);

 private:
  ZmqOptions::Limits limits_;
  ZmqFrame frame_;
  ZmqHandle handle_;
};

}  // namespace mirrorbus::net
