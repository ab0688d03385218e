// The server over TLS, against a client made of OpenSSL and certificates made with its tools.
#include "bus/net/http_server.hpp"
#include "test/support/temp_dir.hpp"

#include <cstdlib>
#include <fstream>
#include <future>
#include <random>
#include <sstream>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace std::chrono_literals;

namespace {

struct Pki {
  test::TempDir dir;

  Pki() { run("new"); }
  void run(const std::string& verb, const std::string& rest = "", const std::string& names = "") {
    const char* const program = std::getenv("PKI");
    REQUIRE(program != nullptr);
    const std::string line =
        fmt::format("SAN='{}' {} {} {} {}", names, program, verb, dir.path(), rest);
    INFO(line);
    REQUIRE(std::system(line.c_str()) == 0);
  }
  // The files of a new certificate: shown with the authority that has signed it.
  TlsFiles leaf(const std::string& name, const std::string& names = "") {
    run("leaf", name + " ec", names);
    std::ostringstream chain;
    for (const std::string& file : {name + ".pem", std::string("trusted/certificates/intermediate.pem")})
      chain << std::ifstream(dir / file).rdbuf();
    return {dir.write(name + ".chain", chain.str()), dir / (name + ".key"), ""};
  }
  std::string authorities() const { return dir / "trusted/authorities.pem"; }
};

struct Served {
  explicit Served(const TlsFiles& files, HttpOptions options = {}) {
    options.name = "test";
    options.listen = "127.0.0.1:0";
    options.tls = std::make_shared<const TlsContext>(files);
    server.emplace(loop, options, registry, base::Log());
    server->route("/names", [](HttpRequest request, HttpReply reply) {
      std::string text = request.tls ? "tls" : "plain";
      for (const std::string& name : request.client_names) text += " " + name;
      reply(HttpResponse::text(200, text + "\n"));
    });
    server->route("/size", [](HttpRequest request, HttpReply reply) {
      reply(HttpResponse::text(200, fmt::format("{}\n", request.body.size())));
    });
    server->route("/file", [this](HttpRequest, HttpReply reply) {
      HttpResponse response;
      response.body = HttpFile{base::Fd(::open((dir / "file").c_str(), O_RDONLY | O_CLOEXEC)), 0,
                               content.size()};
      reply(std::move(response));
    });
    std::mt19937 random(7);
    content.resize(3'000'001);
    for (char& c : content) c = static_cast<char>(random());
    dir.write("file", content);
    thread = std::thread([this] { loop.run(); });
  }
  ~Served() {
    there([this] { server.reset(); });
    loop.stop();
    thread.join();
  }
  template <class Work>
  void there(Work work) {
    std::promise<void> done;
    loop.post([&done, &work] {
      work();
      done.set_value();
    });
    done.get_future().get();
  }

  test::TempDir dir;
  std::string content;
  base::SystemClock clock;
  base::Loop loop{clock};
  base::Registry registry;
  std::optional<HttpServer> server;
  std::thread thread;
};

base::Fd connect_to(const Served& served) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(served.server->port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

class Client {
 public:
  Client(const Served& served, const Pki& pki, const TlsFiles* mine = nullptr,
         int version = TLS1_3_VERSION)
      : fd_(connect_to(served)), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_load_verify_file(context_, pki.authorities().c_str());
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_min_proto_version(context_, version);
    SSL_CTX_set_max_proto_version(context_, version);
    if (version < TLS1_2_VERSION) SSL_CTX_set_cipher_list(context_, "ALL:@SECLEVEL=0");
    if (mine) {
      REQUIRE(SSL_CTX_use_certificate_chain_file(context_, mine->certificate.c_str()) == 1);
      REQUIRE(SSL_CTX_use_PrivateKey_file(context_, mine->key.c_str(), SSL_FILETYPE_PEM) == 1);
    }
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_.get());
    connected_ = SSL_connect(ssl_) == 1;
    ERR_clear_error();
  }
  ~Client() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  SSL* ssl() { return ssl_; }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const int sent = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // Until the server ends it, or `size` bytes are there behind the header.
  std::string receive(std::size_t size = std::string::npos) {
    std::string got;
    char block[65536];
    for (;;) {
      const std::size_t header = got.find("\r\n\r\n");
      if (header != got.npos && size != got.npos && got.size() >= header + 4 + size) return got;
      const int n = SSL_read(ssl_, block, sizeof block);
      if (n <= 0) return got;
      got.append(block, static_cast<std::size_t>(n));
    }
  }
  std::string get(const std::string& path) {
    if (!send("GET " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n")) return "<gone>";
    const std::string got = receive();
    const std::size_t header = got.find("\r\n\r\n");
    return header == got.npos ? "<none>" : got.substr(header + 4);
  }
  long serial() {
    X509* const certificate = SSL_get1_peer_certificate(ssl_);
    const long hash = static_cast<long>(X509_issuer_and_serial_hash(certificate));
    X509_free(certificate);
    return hash;
  }
  // The server has ended the connection, and not with an answer.
  bool cut() {
    char byte;
    const ssize_t got = ::recv(fd_.get(), &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }

 private:
  base::Fd fd_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
};

std::string fault(const TlsFiles& files, TlsFileError::File which) {
  try {
    TlsContext context(files);
  } catch (const TlsFileError& error) {
    return error.which() == which ? error.what() : "another file";
  }
  return "none";
}

}  // namespace

TEST_CASE("requests and answers of any size travel through TLS", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Client client(s, pki, nullptr, version);
    REQUIRE(client.connected());
    // One after the other on one connection, the second and third sent together.
    REQUIRE(client.send("POST /size HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" +
                        std::string(1'000'000, 'x')));
    CHECK(client.receive(8).ends_with("\r\n\r\n1000000\n"));
    REQUIRE(client.send("GET /names HTTP/1.1\r\n\r\nGET /names HTTP/1.1\r\n\r\n"));
    const std::string two = client.receive(10);
    CHECK(two.find("tls\n") != two.npos);
    Client file(s, pki, nullptr, version);
    CHECK(file.get("/file") == s.content);
  }
}

TEST_CASE("a client that waits for 100 Continue is told over TLS", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  Client client(s, pki);
  REQUIRE(client.send("POST /size HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
  CHECK(client.receive(0) == "HTTP/1.1 100 Continue\r\n\r\n");
  REQUIRE(client.send("abc"));
  CHECK(client.receive(2).ends_with("\r\n\r\n3\n"));
}

TEST_CASE("a client is named by its certificate", "[http][tls]") {
  Pki pki, foreign;
  TlsFiles files = pki.leaf("server");
  files.client_authorities = pki.authorities();
  Served s(files);
  const auto names = [&](const TlsFiles* mine) { return Client(s, pki, mine).get("/names"); };
  CHECK(names(nullptr) == "tls\n");
  const TlsFiles common = pki.leaf("common");
  CHECK(names(&common) == "tls common\n");
  const TlsFiles other =
      pki.leaf("other", "DNS:a.example,email:b@example,IP:10.0.0.1,URI:urn:c,DNS:*.example");
  CHECK(names(&other) == "tls a.example b@example *.example\n");
  // Alternative names of other kinds do not hide the common name …
  const TlsFiles address = pki.leaf("address", "IP:10.0.0.1");
  CHECK(names(&address) == "tls address\n");
  // … and what could be read as more than one name is none.
  const TlsFiles spaced = pki.leaf("spaced", "DNS:a b.example");
  CHECK(names(&spaced) == "tls\n");
  const TlsFiles stranger = foreign.leaf("common");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Client client(s, pki, &stranger, version);
    if (client.connected()) CHECK(client.get("/names") == "<none>");
  }
  const TlsFiles late = [&] {
    pki.run("leaf", "late ec -startdate 20200101000000Z -enddate 20200102000000Z");
    return TlsFiles{pki.dir / "late.pem", pki.dir / "late.key", ""};
  }();
  CHECK(names(&late) != "tls late\n");
}

TEST_CASE("what a server does not ask for it does not believe", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  const TlsFiles mine = pki.leaf("common");
  CHECK(Client(s, pki, &mine).get("/names") == "tls\n");
}

TEST_CASE("old versions and renegotiation are refused", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  CHECK_FALSE(Client(s, pki, nullptr, TLS1_1_VERSION).connected());
  Client client(s, pki, nullptr, TLS1_2_VERSION);
  REQUIRE(client.connected());
  CHECK(SSL_renegotiate(client.ssl()) == 1);
  CHECK(SSL_do_handshake(client.ssl()) != 1);
  CHECK(Client(s, pki).get("/names") == "tls\n");
}

TEST_CASE("who stops in the middle of a handshake is disconnected", "[http][tls]") {
  Pki pki;
  HttpOptions options;
  options.idle_timeout = 200ms;
  Served s(pki.leaf("server"), options);
  const base::Fd silent = connect_to(s), begun = connect_to(s), garbage = connect_to(s);
  // A record header that promises a hello, and no more.
  REQUIRE(::send(begun.get(), "\x16\x03\x01\x01\x00\x01", 6, MSG_NOSIGNAL) == 6);
  const std::string noise(10'000, '\x80');
  (void)::send(garbage.get(), noise.data(), noise.size(), MSG_NOSIGNAL);
  CHECK(Client(s, pki).get("/names") == "tls\n");
  for (const base::Fd* fd : {&silent, &begun, &garbage}) {
    char block[1000];
    ssize_t got;
    while ((got = ::recv(fd->get(), block, sizeof block, 0)) > 0) {
    }
    CHECK((got == 0 || errno == ECONNRESET));
  }
  CHECK(s.registry.counter("mirrorbus_http_refused_total", "", {"listener", "test"}).value() >= 1);
}

TEST_CASE("another certificate is for the connections that come", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  Client before(s, pki);
  const auto next = std::make_shared<const TlsContext>(pki.leaf("next"));
  s.there([&] { s.server->set_tls(next); });
  Client after(s, pki);
  CHECK(before.serial() != after.serial());
  CHECK(before.get("/names") == "tls\n");
  CHECK(after.get("/names") == "tls\n");
}

TEST_CASE("closing the listener ends handshakes too", "[http][tls]") {
  Pki pki;
  Served s(pki.leaf("server"));
  const base::Fd silent = connect_to(s);
  CHECK(Client(s, pki).get("/names") == "tls\n");  // so the silent one has been accepted
  s.there([&] { s.server->close_listener(); });
  char byte;
  CHECK(::recv(silent.get(), &byte, 1, 0) == 0);
}

TEST_CASE("files that do not fit are named", "[http][tls]") {
  using File = TlsFileError::File;
  using Catch::Contains;
  Pki pki;
  const TlsFiles good = pki.leaf("server"), other = pki.leaf("other");
  CHECK(fault(good, File::Key) == "none");
  CHECK_THAT(fault({"/nowhere", good.key, ""}, File::Certificate), Contains("/nowhere"));
  CHECK_THAT(fault({good.key, good.key, ""}, File::Certificate), Contains("certificate chain"));
  CHECK_THAT(fault({good.certificate, other.key, ""}, File::Key), Contains(other.key));
  CHECK_THAT(fault({good.certificate, good.certificate, ""}, File::Key), Contains("private key"));
  CHECK_THAT(fault({good.certificate, good.key, good.key}, File::ClientAuthorities),
             Contains("as certificates"));
}
