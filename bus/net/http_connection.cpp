#include "bus/net/http_connection.hpp"

#include <algorithm>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>

namespace mirrorbus::net {
namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;
using Error = boost::system::error_code;

namespace {

constexpr std::size_t kTurn = 1 << 20;          // bytes sent before others get their turn
constexpr std::uint64_t kProgress = 64 * 1024;  // bytes that count as reading on

std::string now_as_http_date() {
  return fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace

// Hands one piece over, by way of the loop: a producer with much at hand must not nest ever deeper.
// Dropped without a piece it cuts the connection: the client must not take what it has for all.
class HttpServer::Connection::PieceGiver {
 public:
  PieceGiver(std::weak_ptr<Connection> connection, std::uint64_t number)
      : connection_(std::move(connection)), number_(number) {}
  PieceGiver(PieceGiver&&) = default;
  ~PieceGiver() {
    if (const auto connection = connection_.lock())
      connection->server_->loop.post([connection, number = number_] {
        if (connection->answering_ == number) connection->close();
      });
  }
  void operator()(std::optional<proto::Bytes> bytes) {
    if (const auto connection = std::exchange(connection_, {}).lock())
      connection->server_->loop.post(
          [connection, number = number_, bytes = std::move(bytes)]() mutable {
            connection->piece(number, std::move(bytes));
          });
  }

 private:
  std::weak_ptr<Connection> connection_;  // moved from: empty
  std::uint64_t number_;
};

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
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](const Error& error, std::size_t) {
                            if (self->closed_) return;
                            if (error) return self->unreadable(error);
                            self->read_body();
                          });
}

void HttpServer::Connection::read_body() {
  if (boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    // An empty send buffer takes these bytes; if not, the client goes on by itself after a while.
    (void)!::send(socket_.native_handle(), kContinue.data(), kContinue.size(),
                  MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](const Error& error, std::size_t) {
                     if (self->closed_) return;
                     if (error) return self->unreadable(error);
                     self->dispatch();
                   });
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
  answer(HttpResponse::text(status, std::move(why)));
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
      HttpResponse response = HttpResponse::text(405, "GET, HEAD and POST only\n");
      response.headers.emplace_back("Allow", "GET, HEAD, POST");
      return answer(std::move(response));
    }
  }
  const boost::beast::string_view target = message.target();
  auto parsed = parse_target({target.data(), target.size()});
  if (!parsed) return answer(HttpResponse::text(400, "not a path\n"));
  request_.path = std::move(parsed->path);
  request_.query = std::move(parsed->query);
  request_.range = field(http::field::range);
  request_.if_range = field(http::field::if_range);
  request_.if_none_match = field(http::field::if_none_match);
  request_.authorization = field(http::field::authorization);
  request_.content_type = field(http::field::content_type);
  request_.accept = field(http::field::accept);
  request_.body = std::move(message.body());
  request_.peer = peer_;

  Handler* const handler = server_->find(request_.path);
  if (!handler) return answer(HttpResponse::text(404, "nothing here\n"));
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

void HttpServer::Connection::answer(HttpResponse response) {
  answered_ = true;
  const bool fresh = response.status == 200 && !response.etag.empty() &&
                     !request_.if_none_match.empty() &&
                     etag_matches(request_.if_none_match, response.etag);
  if (fresh) {
    response.status = 304;
    response.body = proto::Bytes();
  }

  std::string head;
  const auto line = [&head](std::string_view name, std::string_view value) {
    head.append(name).append(": ").append(value).append("\r\n");
  };
  std::optional<std::uint64_t> length;
  if (auto* const file = std::get_if<HttpFile>(&response.body)) {
    line("Accept-Ranges", "bytes");
    // A range of another version of the thing than is here would make a broken copy.
    const bool wanted = response.status == 200 && !request_.range.empty() &&
                        (request_.if_range.empty() || request_.if_range == response.etag);
    ByteRange range{0, file->length};
    const auto chosen =
        wanted ? choose_range(request_.range, file->length, range) : RangeAnswer::Whole;
    if (chosen == RangeAnswer::Part) {
      response.status = 206;
      line("Content-Range", fmt::format("bytes {}-{}/{}", range.first,
                                        range.first + range.length - 1, file->length));
      file->offset += range.first;
      file->length = range.length;
    } else if (chosen == RangeAnswer::Unsatisfiable) {
      response.status = 416;
      line("Content-Range", fmt::format("bytes */{}", file->length));
      file->length = 0;
    }
    length = file->length;
    file_ = std::move(*file);
  } else if (auto* const bytes = std::get_if<proto::Bytes>(&response.body)) {
    length = bytes->size();
  } else {
    producer_ = std::move(std::get<HttpProducer>(response.body));
    if (!chunked_) keep_ = false;  // HTTP/1.0: the end of the connection ends the body
  }

  const bool bodiless = response.status == 304 || response.status == 204;
  if (!bodiless) line("Content-Type", response.content_type);
  if (length && !bodiless) line("Content-Length", fmt::format("{}", *length));
  if (producer_ && chunked_) line("Transfer-Encoding", "chunked");
  if (!response.etag.empty()) line("ETag", response.etag);
  for (const auto& [name, value] : response.headers) line(name, value);
  line("Date", now_as_http_date());
  if (!keep_) line("Connection", "close");

  const auto reason = http::obsolete_reason(static_cast<http::status>(response.status));
  out_ = fmt::format("HTTP/1.1 {} {}\r\n{}\r\n", response.status,
                     std::string_view(reason.data(), reason.size()), head);
  out_at_ = 0;
  if (request_.method == HttpRequest::Method::Head || bodiless) {
    file_ = {};
    producer_ = nullptr;
  } else if (const auto* const bytes = std::get_if<proto::Bytes>(&response.body)) {
    out_ += *bytes;
  }
  sent_ = sent_mark_ = 0;
  expect_progress();
  pump();
}

void HttpServer::Connection::expect_progress() {
  deadline_.start(server_->options.slow_reader_timeout, [this] {
    server_->refused.add();
    close();
  });
}

ssize_t HttpServer::Connection::send_some() {
  const int fd = socket_.native_handle();
  if (out_at_ < out_.size())
    return ::send(fd, out_.data() + out_at_, std::min(out_.size() - out_at_, kTurn),
                  MSG_NOSIGNAL | MSG_DONTWAIT | (file_.length > 0 ? MSG_MORE : 0));
  off_t offset = static_cast<off_t>(file_.offset);
  return ::sendfile(fd, file_.fd.get(), &offset, std::min<std::uint64_t>(file_.length, kTurn));
}

void HttpServer::Connection::pump() {
  std::size_t turn = 0;
  while (out_at_ < out_.size() || file_.length > 0) {
    const ssize_t got = send_some();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return wait_writable();
    if (got <= 0) return close();  // gone, or a file that has become shorter than promised
    const auto bytes = static_cast<std::size_t>(got);
    server_->bytes_sent.add(bytes);
    sent_ += bytes;
    if (sent_ - sent_mark_ >= kProgress) {
      sent_mark_ = sent_;
      expect_progress();
    }
    if (out_at_ < out_.size()) {
      out_at_ += bytes;
    } else {
      file_.offset += bytes;
      file_.length -= bytes;
    }
    turn += bytes;
    if (turn >= kTurn) {
      server_->loop.post([self = shared_from_this()] {
        if (!self->closed_) self->pump();
      });
      return;
    }
  }
  out_.clear();
  out_at_ = 0;
  file_ = {};
  producer_ ? next_piece() : finished();
}

void HttpServer::Connection::wait_writable() {
  socket_.async_wait(tcp::socket::wait_write, [self = shared_from_this()](const Error& error) {
    if (self->closed_) return;
    error ? self->close() : self->pump();
  });
}

void HttpServer::Connection::next_piece() {
  deadline_.cancel();  // however long the next piece takes is not the client's fault
  watch_peer();
  const auto self = shared_from_this();
  producer_(PieceGiver{weak_from_this(), answering_});
}

void HttpServer::Connection::piece(std::uint64_t number, std::optional<proto::Bytes> bytes) {
  if (closed_ || answering_ != number) return;
  const bool end = !bytes;
  if (end) producer_ = nullptr;
  if (!chunked_)
    out_ = bytes.value_or("");
  else if (end || !bytes->empty())
    out_ = fmt::format("{:x}\r\n{}\r\n", end ? 0 : bytes->size(), bytes.value_or(""));
  expect_progress();
  pump();
}

void HttpServer::Connection::finished() {
  deadline_.cancel();
  if (!keep_ || !server_->acceptor.is_open()) return linger();
  read();
}

// Closing with input unread would reset the connection and could take our answer with it: say that
// we are done, and let the client finish, for a moment.
void HttpServer::Connection::linger() {
  Error ignored;
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
