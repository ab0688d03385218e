// The inside of http_server: what a server keeps, and one client's connection.
#pragma once

#include "bus/net/http_server.hpp"
#include "bus/net/http_transport.hpp"

#include <map>
#include <optional>
#include <unordered_map>
#include <utility>  // Boost 1.74's asio headers use std::exchange without it

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace mirrorbus::net {

struct HttpServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(base::Loop& l, HttpOptions o, base::Registry& r, base::Log g)
      : loop(l),
        options(std::move(o)),
        log(std::move(g)),
        tls(options.tls),
        requests(r.counter("mirrorbus_http_requests_total", "Requests answered.", label())),
        bytes_sent(r.counter("mirrorbus_http_sent_bytes_total", "Bytes of answers sent.", label())),
        refused(r.counter("mirrorbus_http_refused_total",
                          "Connections and requests beyond the limits or malformed.", label())),
        open_connections(r.gauge("mirrorbus_http_connections", "Open connections.", label())),
        acceptor(l.context()),
        retry(l) {}

  base::Registry::Label label() const { return {"listener", options.name}; }

  base::Loop& loop;
  const HttpOptions options;
  const base::Log log;
  std::shared_ptr<const TlsContext> tls;
  base::Counter& requests;
  base::Counter& bytes_sent;
  base::Counter& refused;
  base::Gauge& open_connections;

  boost::asio::ip::tcp::acceptor acceptor;
  base::Timer retry;  // after running out of descriptors
  std::map<std::string, Handler, std::less<>> routes;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
  std::unordered_map<std::string, std::size_t> by_peer;

  void listen();
  void accept();
  void admit(boost::asio::ip::tcp::socket socket);
  void forget(Connection* connection, const std::string& peer);
  Handler* find(const std::string& path);
};

// One client. Alternates between reading a request and sending its answer. All its pending
// operations hold it; once closed_ they do nothing.
class HttpServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Impl> server, boost::asio::ip::tcp::socket socket, std::string peer)
      : server_(std::move(server)),
        socket_(std::move(socket)),
        transport_(server_->tls ? server_->tls->accept(socket_.native_handle())
                                : plain_transport(socket_.native_handle())),
        peer_(std::move(peer)),
        deadline_(server_->loop) {}

  const std::string& peer() const { return peer_; }
  bool idle() const { return reading_ && !parser_begun(); }

  void read();
  void close();

 private:
  static constexpr std::size_t kReadAhead = 64 * 1024;  // bytes beyond the request at hand
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  class PieceGiver;
  struct Unsent {
    std::string bytes;
    std::size_t sent = 0;

    std::size_t left() const { return bytes.size() - sent; }
  };

  bool parser_begun() const { return buffer_.size() > 0 || parser_->is_header_done(); }
  void receive();
  std::size_t least_to_parse() const;
  void lost(ssize_t got);
  bool say_continue();
  void unreadable(const boost::system::error_code& error);
  void dispatch();
  void answer(HttpResponse response);
  void refuse(int status, std::string why);
  void pump();
  ssize_t send_some();
  Unsent* unsent();
  void wait(void (Connection::*then)());
  void next_piece();
  void piece(std::uint64_t number, std::optional<proto::Bytes> bytes);
  void finished();
  void linger();
  void watch_peer();
  void expect_progress();

  std::shared_ptr<Impl> server_;
  boost::asio::ip::tcp::socket socket_;
  const std::unique_ptr<HttpTransport> transport_;
  const std::string peer_;
  base::Timer deadline_;
  bool closed_ = false;
  bool reading_ = false;

  boost::beast::flat_buffer buffer_{kReadAhead};
  std::optional<Parser> parser_;

  // The answer: `head_`, `body_`, then `file_`; then what `producer_` makes, a `head_` and `body_` each.
  HttpRequest request_;
  std::uint64_t answering_ = 0;  // counts requests: an old reply says nothing to a new one
  bool answered_ = false;
  bool keep_ = true;
  bool chunked_ = false;
  Unsent head_, body_;
  HttpFile file_;
  HttpProducer producer_;
  std::uint64_t sent_ = 0, sent_mark_ = 0;
  bool watching_peer_ = false;
};

}  // namespace mirrorbus::net
