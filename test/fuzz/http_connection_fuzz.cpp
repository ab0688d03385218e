// One client of the HTTP server, over a real socket: its bytes come in pieces, it reads or does not,
// and goes when it likes. The server lives on, answers in HTTP, and forgets who has gone.
#include "bus/net/http_server.hpp"
#include "test/fuzz/fuzz.hpp"
#include "test/support/test_loop.hpp"

#include <memory>
#include <string>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace mirrorbus;
using fuzz::require;

namespace {

struct Server : test::TestLoop {
  base::Registry registry;
  std::unique_ptr<net::HttpServer> server;

  Server() {
    net::HttpOptions options;
    options.name = "fuzz";
    options.listen = "127.0.0.1:0";
    options.max_header = 1024;
    options.max_body = 2048;
    server = std::make_unique<net::HttpServer>(loop, options, registry, base::Log());
    server->route("/text", [](net::HttpRequest request, net::HttpReply reply) {
      reply(net::HttpResponse::text(200, request.body + request.query));
    });
    server->route("/file", [](net::HttpRequest, net::HttpReply reply) {
      net::HttpResponse response;
      response.etag = "\"e\"";
      base::Fd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
      response.body = net::HttpFile{std::move(fd), 0, 1000};
      reply(std::move(response));
    });
    server->route("/pieces/", [](net::HttpRequest, net::HttpReply reply) {
      net::HttpResponse response;
      response.body = net::HttpProducer([left = 3](net::HttpGive give) mutable {
        if (left-- > 0)
          give(proto::Bytes("piece"));
        else
          give(std::nullopt);
      });
      reply(std::move(response));
    });
    server->route("/forget", [](net::HttpRequest, net::HttpReply) {});
  }
};

int connect_to(std::uint16_t port) {
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  require(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
          "the server listens");
  // What is cut off must not use up the ports there are.
  const linger reset{1, 0};
  ::setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  return client;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Server& one = *new Server;  // never destroyed: libFuzzer ends by exit()
  fuzz::Choices in(fuzz::view(data, size));
  const int client = connect_to(one.server->port());
  require(one.until([] { return one.server->connections() == 1; }), "it is let in");
  std::string heard;
  const auto hear = [&] {
    char block[4096];
    for (ssize_t n; (n = ::recv(client, block, sizeof block, MSG_DONTWAIT)) > 0;)
      heard.append(block, static_cast<std::size_t>(n));
  };
  while (!in.done()) {
    const proto::ByteView piece = in.bytes();
    if (::send(client, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
    one.settle(50);
    hear();
  }
  ::shutdown(client, SHUT_WR);
  one.settle(50);
  hear();
  if (!heard.empty())
    require(proto::ByteView("HTTP/1.1 ").starts_with(heard.substr(0, 9)), "it answers in HTTP");
  ::close(client);
  require(one.until([] { return one.server->connections() == 0; }), "who has gone is forgotten");
  return 0;
}
