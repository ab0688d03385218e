#include "bus/net/http_connection.hpp"

#include <sys/socket.h>
#include <boost/beast/core/read_size.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>

namespace mirrorbus::net {
namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;
using Error = boost::system::error_code;

void HttpServer::Connection::close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();  // the server's may be the last
  deadline_.cancel();
  producer_ = nullptr;
  Error ignored;  // it is going in any case
  socket_.close(ignored);
  server_->forget(this, peer_);
}

void HttpServer::Connection::read() {
  reading_ = true;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(server_->options.max_header));
  parser_->body_limit(server_->options.max_body);
  deadline_.start(server_->options.idle_timeout, [this] { close(); });
  receive();
}

// Boost 1.74's parser asserts that it sees 5 bytes when a last chunk was not complete before. No
// body in chunks ends in fewer.
std::size_t HttpServer::Connection::least_to_parse() const {
  constexpr std::size_t kLastChunk = std::string_view("0\r\n\r\n").size();
  return parser_->is_header_done() && parser_->chunked() ? kLastChunk : 1;
}

// Gives the parser what is here, and waits for what it lacks.
void HttpServer::Connection::receive() {
  while (!parser_->is_done()) {
    Error error = http::error::need_more;
    if (buffer_.size() >= least_to_parse()) buffer_.consume(parser_->put(buffer_.data(), error));
    if (error && error != http::error::need_more) return unreadable(error);
    if (parser_->is_header_done() && !parser_->is_done() && !parser_->eager() && !say_continue())
      return close();
    if (!error) continue;
    const std::size_t room = boost::beast::read_size(buffer_, kReadAhead);
    if (room == 0) return unreadable(http::error::buffer_overflow);
    const auto space = buffer_.prepare(room);
    const ssize_t got = transport_->read(static_cast<char*>(space.data()), space.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return wait(&Connection::receive);
    if (got <= 0) return lost(got);
    buffer_.commit(static_cast<std::size_t>(got));
  }
  dispatch();
}

void HttpServer::Connection::lost(ssize_t got) {
  const std::string why = got < 0 ? transport_->failure() : "";
  if (why.empty()) return close();
  server_->refused.add();
  server_->log.info("{}: TLS with {} failed: {}", server_->options.name, peer_, why);
  // Lets the alert arrive that says why.
  reading_ = false;
  deadline_.cancel();
  linger();
}

// The header has been read; a body follows.
bool HttpServer::Connection::say_continue() {
  parser_->eager(true);
  if (!boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) return true;
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  // A send buffer without room for these bytes belongs to a client that does not read its answers.
  return transport_->write(kContinue.data(), kContinue.size(), false) ==
         static_cast<ssize_t>(kContinue.size());
}

void HttpServer::Connection::unreadable(const Error& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return refuse(431, "header too large\n");
  if (error == http::error::body_limit) return refuse(413, "body too large\n");
  // What is not of HTTP's making is the client going away.
  const bool malformed = error.category() == make_error_code(http::error::bad_method).category() &&
                         error != http::error::end_of_stream &&
                         error != http::error::partial_message;
  if (malformed) return refuse(400, "not HTTP\n");
  close();
}

void HttpServer::Connection::refuse(int status, std::string why) {
  server_->refused.add();
  keep_ = false;
  reading_ = false;
  request_ = {};
  answered_ = false;
  answer(server_->options.refusal(status, std::move(why)));
}

void HttpServer::Connection::dispatch() {
  reading_ = false;
  deadline_.cancel();
  server_->requests.add();
  auto& message = parser_->get();
  keep_ = message.keep_alive() && server_->acceptor.is_open();
  chunked_ = message.version() >= 11;
  answered_ = false;
  const auto field = [&message](http::field name) { return std::string(message[name]); };

  request_ = {};
  switch (message.method()) {
    case http::verb::get: request_.method = HttpRequest::Method::Get; break;
    case http::verb::head: request_.method = HttpRequest::Method::Head; break;
    case http::verb::post: request_.method = HttpRequest::Method::Post; break;
    default: {
      HttpResponse response = server_->options.refusal(405, "GET, HEAD and POST only\n");
      response.headers.emplace_back("Allow", "GET, HEAD, POST");
      return answer(std::move(response));
    }
  }
  const boost::beast::string_view target = message.target();
  auto parsed = parse_target({target.data(), target.size()});
  if (!parsed) return answer(server_->options.refusal(400, "not a path\n"));
  request_.path = std::move(parsed->path);
  request_.query = std::move(parsed->query);
  request_.range = field(http::field::range);
  request_.if_range = field(http::field::if_range);
  request_.if_none_match = field(http::field::if_none_match);
  request_.authorization = field(http::field::authorization);
  request_.content_type = field(http::field::content_type);
  request_.accept = field(http::field::accept);
  if (const auto key = message.find("Idempotency-Key"); key != message.end())
    request_.idempotency_key = std::string(key->value());
  request_.body = std::move(message.body());
  request_.peer = peer_;
  request_.tls = server_->tls != nullptr;
  request_.client_names = transport_->client_names();

  Handler* const handler = server_->find(request_.path);
  if (!handler) return answer(server_->options.refusal(404, "nothing here\n"));
  // Held: the handler may drop its server, and us with it.
  const auto self = shared_from_this();
  HttpReply reply([weak = weak_from_this(), number = ++answering_](HttpResponse response) {
    const auto connection = weak.lock();
    if (!connection || connection->closed_ || connection->answering_ != number ||
        connection->answered_)
      return;
    connection->answer(std::move(response));
  });
  watch_peer();
  HttpRequest request = request_;
  request.body.swap(request_.body);
  try {
    (*handler)(std::move(request), std::move(reply));
  } catch (const std::exception& error) {
    // The reply may have been dropped, and answered, on the way out.
    server_->log.error("{} {}: {}", server_->options.name, request_.path, base::describe(error));
    if (!closed_ && !answered_) answer(HttpResponse::text(500, "failed\n"));
  }
}

// For what the transport lacks.
void HttpServer::Connection::wait(void (Connection::*then)()) {
  socket_.async_wait(transport_->wants_write() ? tcp::socket::wait_write : tcp::socket::wait_read,
                     [self = shared_from_this(), then](const Error& error) {
                       if (self->closed_) return;
                       error ? self->close() : ((*self).*then)();
                     });
}

void HttpServer::Connection::finished() {
  deadline_.cancel();
  reading_ = true;
  // By way of the loop: requests that came together must not nest ever deeper.
  server_->loop.post([self = shared_from_this()] {
    if (self->closed_) return;
    self->reading_ = false;
    if (!self->keep_ || !self->server_->acceptor.is_open()) return self->linger();
    self->read();
  });
}

// Closing with input unread would reset the connection and could take our answer with it: say that
// we are done, and let the client finish, for a moment.
void HttpServer::Connection::linger() {
  Error ignored;
  transport_->finish();
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  if (!deadline_.running()) deadline_.start(std::chrono::seconds(2), [this] { close(); });
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kReadAhead / 2),
                          [self = shared_from_this()](const Error& error, std::size_t) {
                            if (self->closed_) return;
                            error ? self->close() : self->linger();
                          });
}

// While we wait for a handler or a producer nothing else would tell that the client has gone.
void HttpServer::Connection::watch_peer() {
  if (watching_peer_) return;
  watching_peer_ = true;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const Error& error) {
    self->watching_peer_ = false;
    if (self->closed_ || self->reading_ || error) return;
    char byte;
    const ssize_t got = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    // A client that has only finished sending cannot be told from one that has gone.
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) self->close();
  });
}

}  // namespace mirrorbus::net
