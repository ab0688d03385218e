// HTTP/1.1, plain or over TLS, as far as daemons need it: small answers, files in ranges, long
// streamed answers.
//
// Lives on one loop: everything, also answering, happens on its thread. The server decides nothing
// about who may ask what; it keeps any client from costing more than the limits say.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/loop.hpp"
#include "bus/base/metrics.hpp"
#include "bus/net/http_message.hpp"
#include "bus/net/http_tls.hpp"

#include <functional>
#include <memory>
#include <string>

namespace mirrorbus::net {

// The duty to answer one request, at once or later. Answering a client that has gone is fine. If it
// is dropped unanswered the client gets a 500.
class HttpReply {
 public:
  using Send = std::move_only_function<void(HttpResponse)>;
  explicit HttpReply(Send send) : send_(std::move(send)) {}
  HttpReply(HttpReply&& other) noexcept : send_(std::exchange(other.send_, nullptr)) {}
  ~HttpReply();

  void operator()(HttpResponse response);

 private:
  Send send_;
};

struct HttpOptions {
  std::string name;    // of the listener, in metrics and log: "http", "content"
  std::string listen;  // "127.0.0.1:9942", "[::1]:0", ":9944" (every address)
  std::size_t max_connections = 256;
  std::size_t max_connections_per_peer = 32;
  std::size_t max_header = 16 * 1024;
  std::size_t max_body = 1024 * 1024;
  // From a connection's first moment, or the answer before, to the end of a request; a TLS
  // handshake lies within.
  base::Duration idle_timeout = std::chrono::seconds(30);
  // A reader that takes less than 64 KiB (or the rest) in this time is disconnected.
  base::Duration slow_reader_timeout = std::chrono::seconds(30);
  int dscp = 0;                           // of what is sent
  std::shared_ptr<const TlsContext> tls;  // shared with its connections; nothing: plain HTTP
  // Answers what no handler has seen: no HTTP, too large, no such path or method.
  std::function<HttpResponse(int status, std::string why)> refusal = HttpResponse::text;
};

class HttpServer {
 public:
  // What it throws is logged and answered with a 500.
  using Handler = std::move_only_function<void(HttpRequest request, HttpReply reply)>;

  // Listens at once; answers as soon as the loop runs. Makes the process ignore SIGPIPE.
  HttpServer(base::Loop& loop, HttpOptions options, base::Registry& registry, base::Log log);
  // Cuts every connection. On the loop's thread, or when the loop no longer runs.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // `path` alone, or, if it ends in "/", all below it; the longest that fits is taken.
  void route(std::string path, Handler handler);
  // For connections from now on. Only where there was one.
  void set_tls(std::shared_ptr<const TlsContext> tls);

  // Takes no more requests; answers under way go on. For draining.
  void close_listener();
  std::size_t connections() const;
  std::uint16_t port() const;

 private:
  struct Impl;
  class Connection;
  std::shared_ptr<Impl> impl_;  // shared with connections, whose handlers may outlive us
};

}  // namespace mirrorbus::net
