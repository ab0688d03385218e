// How a connection answers: the header, then what is in memory, in a file or made meanwhile.
#include "bus/net/http_connection.hpp"

#include <algorithm>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <boost/beast/http/status.hpp>

namespace mirrorbus::net {
namespace http = boost::beast::http;

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
  head_ = {fmt::format("HTTP/1.1 {} {}\r\n{}\r\n", response.status,
                       std::string_view(reason.data(), reason.size()), head)};
  if (request_.method == HttpRequest::Method::Head || bodiless) {
    file_ = {};
    producer_ = nullptr;
  } else if (auto* const bytes = std::get_if<proto::Bytes>(&response.body)) {
    body_ = {std::move(*bytes)};
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

// What is in memory and next to go.
HttpServer::Connection::Unsent* HttpServer::Connection::unsent() {
  return head_.left() > 0 ? &head_ : body_.left() > 0 ? &body_ : nullptr;
}

ssize_t HttpServer::Connection::send_some() {
  if (const Unsent* const part = unsent()) {
    const bool more = (part == &head_ && body_.left() > 0) || file_.length > 0;
    return transport_->write(part->bytes.data() + part->sent, std::min(part->left(), kTurn), more);
  }
  return transport_->send_file(file_.fd.get(), static_cast<off_t>(file_.offset),
                               std::min<std::uint64_t>(file_.length, kTurn));
}

void HttpServer::Connection::pump() {
  std::size_t turn = 0;
  while (unsent() || file_.length > 0) {
    const ssize_t got = send_some();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return wait(&Connection::pump);
    if (got <= 0) return close();  // gone, or a file that has become shorter than promised
    const auto bytes = static_cast<std::size_t>(got);
    server_->bytes_sent.add(bytes);
    sent_ += bytes;
    if (sent_ - sent_mark_ >= kProgress) {
      sent_mark_ = sent_;
      expect_progress();
    }
    if (Unsent* const part = unsent()) {
      part->sent += bytes;
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
  head_ = body_ = {};
  file_ = {};
  producer_ ? next_piece() : finished();
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
  body_ = {std::move(bytes).value_or("")};
  if (chunked_ && (end || body_.left() > 0)) {
    head_ = {fmt::format("{:x}\r\n", body_.left())};
    body_.bytes += "\r\n";
  }
  expect_progress();
  pump();
}

}  // namespace mirrorbus::net
