// Server and client against each other, and the server against raw bytes.
#include "bus/net/http_client.hpp"
#include "bus/net/http_server.hpp"
#include "test/support/temp_dir.hpp"

#include <atomic>
#include <future>
#include <random>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace std::chrono_literals;
using Kind = HttpFailure::Kind;
using proto::Bytes;
using proto::ByteView;

namespace {

// A server whose loop has a thread of its own, as the content listener's.
struct Served {
  explicit Served(HttpOptions options = {}) {
    options.name = "test";
    options.listen = "127.0.0.1:0";
    server.emplace(loop, options, registry, base::Log());
    url = fmt::format("http://127.0.0.1:{}", server->port());
    server->route("/hello", [](HttpRequest request, HttpReply reply) {
      HttpResponse response = HttpResponse::text(200, "hello " + request.peer);
      response.etag = "\"v1\"";
      reply(std::move(response));
    });
    server->route("/echo", [](HttpRequest r, HttpReply reply) {
      reply(HttpResponse::json(
          200, fmt::format("{}|{}|{}|{}", r.path, r.query, r.content_type, r.body)));
    });
    server->route("/file/", [this](HttpRequest, HttpReply reply) {
      HttpResponse response;
      response.content_type = "application/octet-stream";
      response.etag = "\"f\"";
      base::Fd fd(::open((dir / "file").c_str(), O_RDONLY | O_CLOEXEC));
      response.body = HttpFile{std::move(fd), 10, content.size() - 10};
      reply(std::move(response));
    });
    server->route("/throw", [](HttpRequest, HttpReply) { throw std::runtime_error("no"); });
    server->route("/forget", [](HttpRequest, HttpReply) {});
    std::mt19937 random(7);
    content.resize(3'000'010);
    for (char& c : content) c = static_cast<char>(random());
    dir.write("file", content);
  }
  void start() {
    thread = std::thread([this] { loop.run(); });
  }
  ~Served() {
    if (thread.joinable()) {
      loop.post([this] {
        server.reset();
        loop.stop();
      });
      thread.join();
    }
  }
  // On the server's thread.
  template <class Work>
  auto there(Work work) {
    std::promise<decltype(work())> result;
    loop.post([&result, &work] { result.set_value(work()); });
    return result.get_future().get();
  }
  std::uint64_t counter(std::string_view name) {
    return registry.counter(name, "", {"listener", "test"}).value();
  }

  test::TempDir dir;
  Bytes content;
  base::SystemClock clock;
  base::Loop loop{clock};
  base::Registry registry;
  std::optional<HttpServer> server;
  std::string url;
  std::thread thread;
};

struct Got {
  HttpClient::Outcome outcome;
  Bytes body;
};

Got get(HttpClient& client, const std::string& url, const HttpFetch& fetch = {}) {
  Bytes body;
  auto outcome = client.get(
      url, [&body](ByteView b) { return body.append(b), true; }, fetch);
  return {std::move(outcome), std::move(body)};
}

// A raw connection to the server.
struct Raw {
  explicit Raw(const Served& served, int receive_buffer = 0)
      : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer)
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(served.server->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      base::throw_errno("connect");
  }
  void send(std::string_view bytes) const {
    (void)!::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // Everything until the server closes, or until `end` has come.
  std::string receive(std::string_view end = "\n\n\nnever") const {
    std::string got;
    char block[65536];
    pollfd item{fd.get(), POLLIN, 0};
    while (got.find(end) == got.npos && ::poll(&item, 1, 5000) == 1) {
      const ssize_t n = ::recv(fd.get(), block, sizeof block, 0);
      if (n <= 0) return got;
      got.append(block, static_cast<std::size_t>(n));
    }
    return got.find(end) == got.npos ? got + "<timeout>" : got;
  }
  base::Fd fd;
};

}  // namespace

TEST_CASE("small answers, and what a request says", "[http]") {
  Served s;
  s.start();
  HttpClient client;
  const Got hello = get(client, s.url + "/hello");
  REQUIRE(hello.outcome);
  CHECK(hello.outcome->status == 200);
  CHECK(hello.outcome->content_type == "text/plain; charset=utf-8");
  CHECK(hello.outcome->etag == "\"v1\"");
  CHECK(hello.body == "hello 127.0.0.1");

  Bytes body;
  const auto posted = client.post(s.url + "/echo?a=%31", "some\nbody", "text/x",
                                  [&body](ByteView b) { return body.append(b), true; });
  REQUIRE(posted);
  CHECK(body == "/echo|a=%31|text/x|some\nbody");

  const Got missing = get(client, s.url + "/none");
  REQUIRE(missing.outcome);
  CHECK(missing.outcome->status == 404);
  CHECK(missing.body.empty());
  CHECK(missing.outcome->error_text == "nothing here\n");
  // One connection did for all.
  CHECK(s.there([&s] { return s.server->connections(); }) == 1);
}

TEST_CASE("files go whole and in ranges", "[http]") {
  Served s;
  s.start();
  HttpClient client;
  const Bytes content = s.content.substr(10);
  const Got whole = get(client, s.url + "/file/x");
  REQUIRE(whole.outcome);
  CHECK(whole.outcome->status == 200);
  CHECK(whole.body == content);
  HttpFetch fetch;
  fetch.range = HttpFetch::Range{100, 2'000'000};
  Got part = get(client, s.url + "/file/x", fetch);
  REQUIRE(part.outcome);
  CHECK(part.outcome->status == 206);
  CHECK(part.body == content.substr(100, 2'000'000 - 100 + 1));
  fetch.range = HttpFetch::Range{content.size() - 5, std::nullopt};
  CHECK(get(client, s.url + "/file/x", fetch).body == content.substr(content.size() - 5));
  fetch.range = HttpFetch::Range{content.size(), std::nullopt};
  part = get(client, s.url + "/file/x", fetch);
  REQUIRE(part.outcome);
  CHECK(part.outcome->status == 416);
  CHECK(s.counter("mirrorbus_http_sent_bytes_total") > content.size());

  Raw raw(s);
  raw.send("HEAD /file/x HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\nConnection: close\r\n\r\n");
  const std::string head = raw.receive();
  CHECK_THAT(head, Catch::Contains("HTTP/1.1 206 Partial Content\r\n"));
  CHECK_THAT(head, Catch::Contains("Content-Range: bytes 1-2/3000000\r\n"));
  CHECK_THAT(head, Catch::Contains("Content-Length: 2\r\n") && Catch::EndsWith("\r\n\r\n"));
}

TEST_CASE("conditions are answered from the ETag", "[http]") {
  Served s;
  s.start();
  HttpClient client;
  HttpFetch fetch;
  fetch.headers = {{"If-None-Match", "\"v0\", \"v1\""}};
  const Got fresh = get(client, s.url + "/hello", fetch);
  REQUIRE(fresh.outcome);
  CHECK(fresh.outcome->status == 304);
  CHECK(fresh.body.empty());
  fetch.range = HttpFetch::Range{5, std::nullopt};
  fetch.headers = {{"If-Range", "\"f\""}};
  CHECK(get(client, s.url + "/file/x", fetch).outcome->status == 206);
  fetch.headers = {{"If-Range", "\"other\""}};
  const Got other = get(client, s.url + "/file/x", fetch);
  REQUIRE_FALSE(other.outcome);
  CHECK(other.outcome.error().kind == Kind::RangeIgnored);
  CHECK(other.body.empty());
}

TEST_CASE("long answers are made while they are sent", "[http]") {
  Served s;
  std::atomic<int> made = 0, gone = 0;
  struct Count {
    std::atomic<int>* count;
    explicit Count(std::atomic<int>& c) : count(&c) {}
    Count(Count&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
    ~Count() {
      if (count) ++*count;
    }
  };
  s.server->route("/stream", [&made, &gone](HttpRequest request, HttpReply reply) {
    const int pieces = std::stoi(request.parameter("n").value_or("0"));
    HttpResponse response;
    response.body = HttpProducer([pieces, n = 0, &made, c = Count(gone)](HttpGive give) mutable {
      if (n == pieces) return give(std::nullopt);
      ++made;
      give(fmt::format("{};", n++));
    });
    reply(std::move(response));
  });
  s.server->route("/broken", [](HttpRequest, HttpReply reply) {
    HttpResponse response;
    response.body = HttpProducer([n = 0](HttpGive give) mutable {
      if (n++ == 0) give("half");
    });
    reply(std::move(response));
  });
  s.start();
  HttpClient client;
  const Got got = get(client, s.url + "/stream?n=20000");
  REQUIRE(got.outcome);
  CHECK(got.body.ends_with("19998;19999;"));
  CHECK(std::ranges::count(got.body, ';') == 20000);
  CHECK(gone == 1);
  CHECK(get(client, s.url + "/stream?n=0").outcome);
  CHECK(s.there([&s] { return s.server->connections(); }) == 1);

  const Got half = get(client, s.url + "/broken");
  REQUIRE_FALSE(half.outcome);
  CHECK(half.outcome.error().kind == Kind::Broken);

  Raw old(s);
  old.send("GET /stream?n=3 HTTP/1.0\r\n\r\n");
  CHECK_THAT(old.receive(), Catch::EndsWith("\r\n\r\n0;1;2;"));

  // Somebody who goes away in the middle ends the making.
  made = gone = 0;
  {
    Raw raw(s);
    raw.send("GET /stream?n=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    raw.receive("1;");
  }
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (gone == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK(gone == 1);
}

TEST_CASE("an answer may come later, or be forgotten", "[http]") {
  Served s;
  std::promise<HttpReply> asked;
  s.server->route("/later",
                  [&asked](HttpRequest, HttpReply reply) { asked.set_value(std::move(reply)); });
  s.start();
  auto later = std::async(std::launch::async, [&s] {
    HttpClient client;
    return get(client, s.url + "/later");
  });
  auto reply = std::make_shared<HttpReply>(asked.get_future().get());
  s.loop.post([reply] { (*reply)(HttpResponse::text(202, "done")); });
  const Got got = later.get();
  REQUIRE(got.outcome);
  CHECK(got.outcome->status == 202);

  HttpClient client;
  CHECK(get(client, s.url + "/forget").outcome->status == 500);
  CHECK(get(client, s.url + "/throw").outcome->status == 500);
  CHECK(get(client, s.url + "/hello").outcome->status == 200);
}

TEST_CASE("requests that came together are answered in order", "[http]") {
  Served s;
  s.start();
  Raw raw(s);
  raw.send(
      "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: "
      "3\r\n\r\nabc"
      "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string got = raw.receive();
  const std::size_t a = got.find("hello 127"), b = got.find("/echo|||abc"),
                    c = got.find("nothing here");
  CHECK(a < b);
  CHECK(b < c);
  CHECK(c != got.npos);
}

TEST_CASE("however many requests came together, each is answered from the loop", "[http]") {
  constexpr int kMany = 20'000;
  Served s;
  int answered = 0;
  s.server->route("/x", [&answered](HttpRequest, HttpReply reply) {
    ++answered;
    reply(HttpResponse::text(204, ""));
  });
  s.start();
  Raw raw(s);
  std::string all;
  for (int i = 0; i < kMany; ++i) all += "GET /x HTTP/1.1\r\n\r\n";
  std::thread sender([&] { raw.send(all + "GET /hello HTTP/1.0\r\n\r\n"); });
  const std::string got = raw.receive("hello 127.0.0.1");
  sender.join();
  CHECK(got.ends_with("hello 127.0.0.1"));
  CHECK(answered == kMany);
}

TEST_CASE("what is not a good request gets a reason", "[http]") {
  HttpOptions options;
  options.max_header = 2000;
  options.max_body = 100;
  Served s(options);
  s.start();
  const auto answer = [&s](const std::string& request) {
    const Raw raw(s);
    raw.send(request);
    const std::string got = raw.receive();
    return got.substr(0, got.find('\r'));
  };
  const std::string host = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
  CHECK(answer("hello world\r\n\r\n") == "HTTP/1.1 400 Bad Request");
  CHECK(answer("GET /../etc/passwd" + host + "\r\n") == "HTTP/1.1 400 Bad Request");
  CHECK(answer("DELETE /hello" + host + "\r\n") == "HTTP/1.1 405 Method Not Allowed");
  CHECK(answer("GET /hello" + host + "X: " + std::string(3000, 'x') + "\r\n\r\n") ==
        "HTTP/1.1 431 Request Header Fields Too Large");
  CHECK(answer("POST /echo" + host + "Content-Length: 101\r\n\r\n" + std::string(101, 'x')) ==
        "HTTP/1.1 413 Payload Too Large");
  CHECK(answer("POST /echo" + host + "Transfer-Encoding: chunked\r\n\r\n65\r\n" +
               std::string(101, 'x') + "\r\n0\r\n\r\n") == "HTTP/1.1 413 Payload Too Large");
  CHECK(answer("POST /echo" + host + "Content-Length: 100\r\n\r\n" + std::string(100, 'x')) ==
        "HTTP/1.1 200 OK");
  CHECK(s.counter("mirrorbus_http_refused_total") == 4);
  Raw expecting(s);
  expecting.send("POST /echo" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  CHECK(expecting.receive("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  expecting.send("ok");
  CHECK_THAT(expecting.receive(), Catch::EndsWith("|ok"));
}

TEST_CASE("a body in chunks may end byte by byte", "[http]") {
  Served s;  // its loop is ours to turn
  Raw raw(s);
  const auto send = [&](std::string_view bytes) {
    raw.send(bytes);
    while (s.loop.run_one(base::Duration::zero())) {
    }
  };
  send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  SECTION("after a chunk") { send("2\r\nhi\r\n"); }
  SECTION("of nothing else") {}
  send("0\r\n");  // Boost 1.74 asserts that two more bytes come with the next
  send("\r");
  send("\n");
  CHECK(raw.receive("|").starts_with("HTTP/1.1 200 OK"));
}

TEST_CASE("clients that dawdle are disconnected", "[http]") {
  HttpOptions options;
  options.idle_timeout = 50ms;
  options.slow_reader_timeout = 50ms;
  Served s(options);
  s.start();
  SECTION("before a request") { CHECK(Raw(s).receive().empty()); }
  SECTION("in a request") {
    Raw raw(s);
    raw.send("GET /hel");
    CHECK(raw.receive().empty());
  }
  SECTION("in a body") {
    Raw raw(s);
    raw.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    CHECK(raw.receive().empty());
  }
  SECTION("after an answer") {
    Raw raw(s);
    raw.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_THAT(raw.receive(), Catch::EndsWith("hello 127.0.0.1"));
  }
  SECTION("while reading an answer") {
    Raw raw(s, 4096);
    raw.send("GET /file/x HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (s.there([&s] { return s.server->connections(); }) == 0) {
    }
    while (s.there([&s] { return s.server->connections(); }) > 0 &&
           std::chrono::steady_clock::now() < deadline) {
    }
    CHECK(s.there([&s] { return s.server->connections(); }) == 0);
    CHECK(s.counter("mirrorbus_http_refused_total") == 1);
  }
}

TEST_CASE("too many connections are told to come back", "[http]") {
  HttpOptions options;
  SECTION("in all") { options.max_connections = 2; }
  SECTION("from one peer") { options.max_connections_per_peer = 2; }
  Served s(options);
  s.start();
  const auto ask = [&s](const Raw& raw) {
    raw.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    return raw.receive("\r\n\r\n").substr(0, 12);
  };
  std::optional<Raw> a(std::in_place, s), b(std::in_place, s);
  CHECK(ask(*a) == "HTTP/1.1 200");
  CHECK(ask(*b) == "HTTP/1.1 200");
  CHECK(Raw(s).receive("\r\n\r\n").starts_with("HTTP/1.1 503"));
  a.reset();
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (s.there([&s] { return s.server->connections(); }) > 1 &&
         std::chrono::steady_clock::now() < deadline) {
  }
  CHECK(ask(Raw(s)) == "HTTP/1.1 200");
}

TEST_CASE("closing the listener lets answers finish", "[http]") {
  Served s;
  std::promise<HttpReply> asked;
  s.server->route("/later",
                  [&asked](HttpRequest, HttpReply reply) { asked.set_value(std::move(reply)); });
  s.start();
  Raw idle(s), busy(s);
  idle.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  idle.receive("hello");
  busy.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  auto reply = std::make_shared<HttpReply>(asked.get_future().get());
  s.there([&s] { return s.server->close_listener(), 0; });
  CHECK(idle.receive().find("<timeout>") == std::string::npos);
  s.loop.post([reply] { (*reply)(HttpResponse::text(200, "at last")); });
  CHECK_THAT(busy.receive(), Catch::EndsWith("at last"));
}

TEST_CASE("a file that has shrunk cuts the connection instead of lying", "[http]") {
  Served s;
  s.server->route("/short", [&s](HttpRequest, HttpReply reply) {
    HttpResponse response;
    response.body =
        HttpFile{base::Fd(::open((s.dir / "file").c_str(), O_RDONLY)), 0, s.content.size() + 1};
    reply(std::move(response));
  });
  s.start();
  HttpClient client;
  const Got got = get(client, s.url + "/short");
  REQUIRE_FALSE(got.outcome);
  CHECK(got.outcome.error().kind == Kind::Broken);
}

TEST_CASE("a taken port names itself", "[http]") {
  Served s;
  base::Registry registry;
  HttpOptions options;
  options.listen = fmt::format("127.0.0.1:{}", s.server->port());
  CHECK_THROWS_WITH(HttpServer(s.loop, options, registry, base::Log()),
                    "listening on " + options.listen + ": Address already in use");
}

TEST_CASE("the client keeps its limits", "[http]") {
  Served s;
  s.server->route("/to-file", [](HttpRequest, HttpReply reply) {
    HttpResponse response = HttpResponse::text(302, "");
    response.headers.emplace_back("Location", "file:///etc/passwd");
    reply(std::move(response));
  });
  s.server->route("/to-hello", [](HttpRequest, HttpReply reply) {
    HttpResponse response = HttpResponse::text(302, "");
    response.headers.emplace_back("Location", "/hello");
    reply(std::move(response));
  });
  s.server->route("/busy", [](HttpRequest, HttpReply reply) {
    HttpResponse response = HttpResponse::text(503, "later");
    response.headers.emplace_back("Retry-After", "7");
    reply(std::move(response));
  });
  std::vector<HttpReply> held;
  s.server->route("/hang",
                  [&held](HttpRequest, HttpReply reply) { held.push_back(std::move(reply)); });
  s.start();
  HttpClient client;
  const auto kind = [&client](const std::string& url, const HttpFetch& fetch = {}) {
    const Got got = get(client, url, fetch);
    return got.outcome ? std::nullopt : std::optional(got.outcome.error().kind);
  };
  CHECK(kind("ftp://127.0.0.1/") == Kind::BadUrl);
  CHECK(kind("file:///etc/passwd") == Kind::BadUrl);
  CHECK(kind(s.url + "/to-file") == Kind::BadUrl);
  CHECK(get(client, s.url + "/to-hello").body == "hello 127.0.0.1");
  CHECK(get(client, s.url + "/busy").outcome->retry_after == 7s);
  CHECK(kind("http://127.0.0.1:1/") == Kind::Unreachable);
  HttpFetch fetch;
  fetch.max_bytes = 2'999'999;
  CHECK(kind(s.url + "/file/x", fetch) == Kind::TooLarge);
  fetch.max_bytes = 3'000'000;
  CHECK_FALSE(kind(s.url + "/file/x", fetch));
  fetch.timeout = 50ms;
  CHECK(kind(s.url + "/hang", fetch) == Kind::Timeout);
  CHECK(client.get(s.url + "/file/x", [](ByteView) { return false; }).error().kind ==
        Kind::Stopped);
  CHECK_THROWS_WITH(
      client.get(s.url + "/file/x", [](ByteView) -> bool { throw std::runtime_error("disk"); }),
      "disk");

  std::thread canceller([&client] { client.cancel(); });
  CHECK(kind(s.url + "/hang") == Kind::Cancelled);
  canceller.join();
  CHECK(kind(s.url + "/hello") == Kind::Cancelled);
  client.resume();
  CHECK_FALSE(kind(s.url + "/hello"));
}

TEST_CASE("a client connects only where it may, wherever a name or a redirect leads", "[http]") {
  Served here, there;
  here.server->route("/away", [&](HttpRequest, HttpReply reply) {
    HttpResponse response = HttpResponse::text(302, "");
    response.headers.emplace_back("Location", there.url + "/hello");
    reply(std::move(response));
  });
  int reached = 0;
  there.server->route("/hello", [&](HttpRequest, HttpReply reply) {
    ++reached;
    reply(HttpResponse::text(200, "inside"));
  });
  here.start();
  there.start();
  using Asked = std::pair<std::string, std::string>;
  std::vector<Asked> asked;
  bool first_may = true, redirect_may = false;
  HttpFetch fetch;
  fetch.direct = true;
  fetch.may_connect = [&](const Address& to, const std::optional<Address>& from) {
    asked.emplace_back(to_text(to), from ? to_text(*from) : "");
    return from ? redirect_may : first_may;
  };
  {
    HttpClient client;
    const Got got = get(client, here.url + "/away", fetch);
    REQUIRE_FALSE(got.outcome);
    CHECK(got.outcome.error().kind == Kind::Forbidden);
    CHECK(got.outcome.error().text.find("127.0.0.1") != std::string::npos);
    CHECK(asked == std::vector<Asked>{{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.1"}});
    CHECK(reached == 0);
    // On a connection that is there already the redirect is one all the same.
    asked.clear();
    CHECK_FALSE(get(client, here.url + "/away", fetch).outcome);
    CHECK(asked == std::vector<Asked>{{"127.0.0.1", "127.0.0.1"}});
    redirect_may = true;
    CHECK(get(client, here.url + "/away", fetch).body == "inside");
  }
  first_may = false;
  asked.clear();
  HttpClient client;
  const std::string port = here.url.substr(here.url.rfind(':'));
  for (const std::string host : {"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"}) {
    CAPTURE(host);
    const Got got = get(client, "http://" + host + port + "/hello", fetch);
    REQUIRE_FALSE(got.outcome);
    CHECK(got.outcome.error().kind == Kind::Forbidden);
  }
  CHECK(asked.size() >= 4);  // of a name, each address that it has
  fetch.may_connect = [](const Address&, const std::optional<Address>&) -> bool {
    throw std::runtime_error("no addresses");
  };
  CHECK_THROWS_WITH(get(client, here.url + "/hello", fetch), "no addresses");
}

namespace {

// The type of service that the first packets of an accepted connection had.
int seen_tos(int fd) {
  char control[256];
  socklen_t size = sizeof control;
  REQUIRE(::getsockopt(fd, IPPROTO_IP, IP_PKTOPTIONS, control, &size) == 0);
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = size;
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each))
    if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_TOS) return *CMSG_DATA(each);
  return -1;
}

}  // namespace

TEST_CASE("what a client sends is marked", "[http]") {
  const base::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  REQUIRE(::setsockopt(listener.get(), IPPROTO_IP, IP_RECVTOS, &on, sizeof on) == 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listener.get(), 5) == 0);
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const int dscp = GENERATE(0, 10);
  auto asked = std::async(std::launch::async, [&] {
    HttpClient client;
    HttpFetch fetch;
    fetch.dscp = dscp;
    return client.get(fmt::format("http://127.0.0.1:{}/", ntohs(address.sin_port)),
                      [](ByteView) { return true; }, fetch);
  });
  const base::Fd connection(::accept(listener.get(), nullptr, nullptr));
  REQUIRE(connection);
  char request[1000];
  REQUIRE(::recv(connection.get(), request, sizeof request, 0) > 0);
  CHECK((seen_tos(connection.get()) & 0xfc) == dscp << 2);
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  REQUIRE(::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL) > 0);
  REQUIRE(asked.get());
}

TEST_CASE("what a server sends is marked", "[http]") {
  HttpOptions options;
  options.dscp = 8;
  Served served(options);
  served.start();
  const base::Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(served.server->port());
  REQUIRE(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const std::string request = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
  REQUIRE(::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL) > 0);
  char answer[1000];
  REQUIRE(::recv(client.get(), answer, sizeof answer, 0) > 0);
  // The server's end is a socket of this process, too.
  sockaddr_in own{};
  socklen_t size = sizeof own;
  REQUIRE(::getsockname(client.get(), reinterpret_cast<sockaddr*>(&own), &size) == 0);
  int found = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0 ||
        peer.sin_family != AF_INET || peer.sin_port != own.sin_port)
      continue;
    int tos = -1;
    socklen_t tos_size = sizeof tos;
    REQUIRE(::getsockopt(fd, IPPROTO_IP, IP_TOS, &tos, &tos_size) == 0);
    CHECK((tos & 0xfc) == 8 << 2);
    ++found;
  }
  CHECK(found == 1);
}
