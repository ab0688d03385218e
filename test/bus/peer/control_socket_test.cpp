#include "bus/peer/control_socket.hpp"

#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <future>
#include <stdexcept>
#include <thread>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using namespace std::chrono_literals;
using proto::Map;
using proto::Value;
using test::TestLoop;

namespace {

struct Fixture : TestLoop {
  test::TempDir dir;
  std::string path = dir / "control.sock";
  std::optional<ControlSocket> socket{std::in_place, loop, path};

  // Runs what blocks in a thread of its own while the loop turns.
  template <class Work>
  auto beside(Work work) {
    auto result = std::async(std::launch::async, std::move(work));
    REQUIRE(until([&result] { return result.wait_for(0s) == std::future_status::ready; }));
    return result.get();
  }
  ControlAnswer ask(const Value& request) {
    return beside([this, request] { return ControlClient(path).call(request, 5s); });
  }
  // Sends bytes as they are; what came back until the daemon closed or `lines` lines were there.
  std::string raw(const std::string& bytes, int lines) {
    return beside([this, bytes, lines] {
      const base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      path.copy(address.sun_path, sizeof address.sun_path - 1);
      if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        base::throw_errno("connect");
      std::thread sender(
          [&fd, &bytes] { (void)!::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); });
      std::string got;
      char block[4096];
      while (std::ranges::count(got, '\n') < lines) {
        const ssize_t n = ::recv(fd.get(), block, sizeof block, 0);
        if (n <= 0) break;
        got.append(block, static_cast<std::size_t>(n));
      }
      ::shutdown(fd.get(), SHUT_RDWR);
      sender.join();
      return got;
    });
  }
};

}  // namespace

TEST_CASE("a verb answers at once, with its error, or with what it throws", "[control]") {
  Fixture f;
  f.socket->add("echo", [](const Value& request, ControlReply reply) { reply(request); });
  f.socket->add("refuse", [](const Value&, ControlReply reply) { reply.fail("not today"); });
  f.socket->add("throw", [](const Value&, ControlReply) { throw std::runtime_error("disk gone"); });
  f.socket->add("forget", [](const Value&, ControlReply) {});
  const Value request = Map{{"verb", "echo"}, {"n", 7}};
  CHECK(f.ask(request) == ControlAnswer(request));
  CHECK(f.ask(Map{{"verb", "refuse"}}).error() == "not today");
  CHECK(f.ask(Map{{"verb", "throw"}}).error() == "disk gone");
  CHECK(f.ask(Map{{"verb", "forget"}}).error() == "the daemon gave no answer");
  CHECK(f.ask(Map{{"verb", "nix"}}).error() ==
        "no verb \"nix\" here; there are: echo, forget, refuse, throw");
}

TEST_CASE("a verb may answer later, and in the end only once", "[control]") {
  Fixture f;
  std::optional<ControlReply> held;
  f.socket->add("wait",
                [&held](const Value&, ControlReply reply) { held.emplace(std::move(reply)); });
  auto result = std::async(std::launch::async, [&f] {
    ControlClient client(f.path);
    const auto first = client.call(Map{{"verb", "wait"}}, 5s);
    return std::pair(first, client.call(Map{{"verb", "nix"}}, 5s));
  });
  REQUIRE(f.until([&held] { return held.has_value(); }));
  f.settle();
  (*held)(Value(1));
  (*held)(Value(2));
  REQUIRE(f.until([&result] { return result.wait_for(0s) == std::future_status::ready; }));
  const auto [first, second] = result.get();
  CHECK(first == ControlAnswer(Value(1)));
  CHECK_FALSE(second);
}

TEST_CASE("requests sent in one go are answered one by one, in order", "[control]") {
  Fixture f;
  int running = 0, most = 0;
  f.socket->add("n", [&f, &running, &most](const Value& request, ControlReply reply) {
    most = std::max(most, ++running);
    f.loop.post([&running, n = *request.find("n"), reply = std::move(reply)]() mutable {
      --running;
      reply(n);
    });
  });
  CHECK(f.raw("{\"verb\":\"n\",\"n\":1}\n{\"verb\":\"n\",\"n\":2}\n{\"verb\":\"n\",\"n\":3}\n",
              3) == "{\"ok\":1}\n{\"ok\":2}\n{\"ok\":3}\n");
  CHECK(most == 1);
}

TEST_CASE("what is not a request is refused", "[control]") {
  Fixture f;
  CHECK(f.raw("hello\n{}\n[1]\n{\"verb\":1}\n", 4) ==
        "{\"error\":\"not a JSON object with a \\\"verb\\\"\"}\n"
        "{\"error\":\"not a JSON object with a \\\"verb\\\"\"}\n"
        "{\"error\":\"not a JSON object with a \\\"verb\\\"\"}\n"
        "{\"error\":\"not a JSON object with a \\\"verb\\\"\"}\n");
  CHECK(f.raw(std::string(1 << 20, 'x'), 2) == "{\"error\":\"a line has at most 65536 bytes\"}\n");
}

TEST_CASE("a big answer arrives whole", "[control]") {
  Fixture f;
  const std::string big(5'000'000, 'b');
  f.socket->add("big", [&big](const Value&, ControlReply reply) { reply(Value(big)); });
  CHECK(f.ask(Map{{"verb", "big"}}) == ControlAnswer(Value(big)));
}

TEST_CASE("the asker may go before the answer, and the daemon too", "[control]") {
  Fixture f;
  std::vector<ControlReply> held;
  f.socket->add("wait",
                [&held](const Value&, ControlReply reply) { held.push_back(std::move(reply)); });
  const auto outcome = f.beside([&f]() -> std::string {
    try {
      ControlClient(f.path).call(Map{{"verb", "wait"}}, 50ms);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "answered";
  });
  CHECK_THAT(outcome, Catch::Contains("did not answer in time"));
  f.settle();
  REQUIRE(held.size() == 1);
  held[0](Value(1));
  f.settle();

  auto waiting = std::async(std::launch::async, [&f]() -> std::string {
    try {
      ControlClient(f.path).call(Map{{"verb", "wait"}}, 5s);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "answered";
  });
  REQUIRE(f.until([&held] { return held.size() == 2; }));
  f.socket.reset();
  held[1](Value(1));
  CHECK_THAT(waiting.get(), Catch::Contains("went away"));
}

TEST_CASE("the socket has its mode, replaces a stale one, and goes with the daemon", "[control]") {
  Fixture f;
  struct stat info {};
  REQUIRE(::stat(f.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0660);
  f.socket.reset();
  CHECK(::stat(f.path.c_str(), &info) != 0);
  CHECK_THROWS_WITH(ControlClient(f.path), Catch::Contains("no daemon answers at " + f.path));
  f.dir.write("control.sock", "left behind");
  f.socket.emplace(f.loop, f.path);
  f.socket->add("x", [](const Value&, ControlReply reply) { reply(Value(1)); });
  CHECK(f.ask(Map{{"verb", "x"}}));
  CHECK_THROWS_WITH(ControlClient("/" + std::string(200, 'x')), Catch::Contains("longer than"));
}

TEST_CASE("too many askers are told so", "[control]") {
  Fixture f;
  f.socket->add("x", [](const Value&, ControlReply reply) { reply(Value(1)); });
  f.beside([&f] {
    std::vector<std::unique_ptr<ControlClient>> clients;
    for (std::size_t i = 0; i < kMaxControlConnections; ++i) {
      clients.push_back(std::make_unique<ControlClient>(f.path));
      if (!clients.back()->call(Map{{"verb", "x"}}, 5s)) throw std::logic_error("refused");
    }
    return 0;
  });
  f.settle();
  std::vector<std::string> errors;
  f.beside([&f, &errors] {
    std::vector<std::unique_ptr<ControlClient>> clients;
    for (std::size_t i = 0; i <= kMaxControlConnections; ++i) {
      clients.push_back(std::make_unique<ControlClient>(f.path));
      try {
        const auto answer = clients.back()->call(Map{{"verb", "x"}}, 5s);
        if (!answer) errors.push_back(answer.error());
      } catch (const std::runtime_error& error) {
        errors.push_back(error.what());
      }
    }
    return 0;
  });
  CHECK(errors.size() == 1);
}
