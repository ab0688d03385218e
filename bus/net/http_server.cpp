#include "bus/net/http_server.hpp"

#include "bus/net/dscp.hpp"
#include "bus/net/endpoint.hpp"
#include "bus/net/http_connection.hpp"

#include <cassert>
#include <csignal>
#include <stdexcept>

#include <fmt/core.h>
#include <sys/socket.h>
#include <boost/asio/ip/v6_only.hpp>

namespace mirrorbus::net {
namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using Error = boost::system::error_code;

namespace {

std::string peer_name(const tcp::endpoint& peer) {
  asio::ip::address address = peer.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  return address.to_string();
}

}  // namespace

HttpReply::~HttpReply() {
  if (send_) send_(HttpResponse::text(500, "no answer\n"));
}

void HttpReply::operator()(HttpResponse response) {
  if (Send send = std::exchange(send_, nullptr)) send(std::move(response));
}

void HttpServer::Impl::listen() {
  const auto parsed = parse_host_port(options.listen);
  if (!parsed) throw std::runtime_error("listening on " + options.listen + ": not ADDRESS:PORT");
  try {
    tcp::endpoint endpoint(tcp::v6(), parsed->port);
    if (!parsed->host.empty())
      endpoint = tcp::endpoint(asio::ip::make_address(parsed->host), parsed->port);
    Error no_v6;
    acceptor.open(endpoint.protocol(), no_v6);
    if (no_v6) {
      endpoint = tcp::endpoint(tcp::v4(), parsed->port);
      acceptor.open(endpoint.protocol());
    }
    acceptor.set_option(tcp::acceptor::reuse_address(true));
    if (parsed->host.empty() && endpoint.protocol() == tcp::v6())
      acceptor.set_option(asio::ip::v6_only(false));
    acceptor.bind(endpoint);
    acceptor.listen();
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error(
        fmt::format("listening on {}: {}", options.listen, error.code().message()));
  }
}

void HttpServer::Impl::accept() {
  acceptor.async_accept([self = shared_from_this()](const Error& error, tcp::socket socket) {
    if (!self->acceptor.is_open()) return;
    if (!error) {
      self->admit(std::move(socket));
      self->accept();
    } else if (error == asio::error::connection_aborted) {
      self->accept();
    } else {
      self->log.warning("{}: cannot accept connections: {}", self->options.name, error.message());
      self->retry.start(std::chrono::milliseconds(200), [self = self.get()] { self->accept(); });
    }
  });
}

void HttpServer::Impl::admit(tcp::socket socket) {
  Error error;
  const std::string peer = peer_name(socket.remote_endpoint(error));
  if (error) return;  // gone again
  socket.set_option(tcp::no_delay(true), error);
  if (options.dscp > 0) mark(socket.native_handle(), options.dscp);
  socket.native_non_blocking(true, error);
  std::size_t& of_peer = by_peer[peer];
  if (connections.size() >= options.max_connections ||
      of_peer >= options.max_connections_per_peer) {
    refused.add();
    if (of_peer == 0) by_peer.erase(peer);
    if (tls) return;  // a handshake would cost more than the answer is worth
    constexpr std::string_view kBusy =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n";
    // One send that may fail: a client too many is owed no more.
    (void)!::send(socket.native_handle(), kBusy.data(), kBusy.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    socket.shutdown(tcp::socket::shutdown_send, error);
    return;
  }
  ++of_peer;
  const auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket), peer);
  connections.emplace(connection.get(), connection);
  open_connections.set(static_cast<double>(connections.size()));
  connection->read();
}

void HttpServer::Impl::forget(Connection* connection, const std::string& peer) {
  connections.erase(connection);
  open_connections.set(static_cast<double>(connections.size()));
  const auto it = by_peer.find(peer);
  if (it != by_peer.end() && --it->second == 0) by_peer.erase(it);
}

HttpServer::Handler* HttpServer::Impl::find(const std::string& path) {
  if (const auto it = routes.find(path); it != routes.end()) return &it->second;
  for (std::size_t slash = path.rfind('/'); slash != std::string::npos;
       slash = slash == 0 ? std::string::npos : path.rfind('/', slash - 1)) {
    const auto it = routes.find(std::string_view(path).substr(0, slash + 1));
    if (it != routes.end()) return &it->second;
  }
  return nullptr;
}

HttpServer::HttpServer(base::Loop& loop, HttpOptions options, base::Registry& registry,
                       base::Log log)
    : impl_(std::make_shared<Impl>(loop, std::move(options), registry, std::move(log))) {
  // sendfile() and OpenSSL know no MSG_NOSIGNAL.
  ::signal(SIGPIPE, SIG_IGN);
  impl_->listen();
  impl_->accept();
}

HttpServer::~HttpServer() {
  Error ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
  const auto all = std::exchange(impl_->connections, {});
  for (const auto& [raw, connection] : all) connection->close();
}

void HttpServer::route(std::string path, Handler handler) {
  impl_->routes.insert_or_assign(std::move(path), std::move(handler));
}

void HttpServer::close_listener() {
  Error ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
  const auto all = impl_->connections;
  for (const auto& [raw, connection] : all)
    if (connection->idle()) connection->close();
}

void HttpServer::set_tls(std::shared_ptr<const TlsContext> tls) {
  assert(impl_->tls && tls);
  impl_->tls = std::move(tls);
}

std::size_t HttpServer::connections() const { return impl_->connections.size(); }
std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

}  // namespace mirrorbus::net
