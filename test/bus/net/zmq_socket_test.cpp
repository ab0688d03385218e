#include "bus/net/zmq_socket.hpp"

#include "bus/net/endpoint.hpp"
#include "bus/net/zmq_blocking.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <optional>
#include <set>

#include <fmt/core.h>
#include <unistd.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace mirrorbus::net;
using namespace std::chrono_literals;
using proto::Bytes;
using proto::ByteView;
using test::TestLoop;

namespace {

struct Net : TestLoop {
  ZmqContext context;
  static ZmqOptions quick() {
    ZmqOptions options;
    options.reconnect_interval = 5ms;
    return options;
  }
};

}  // namespace

TEST_CASE("binding to any port tells which, and a taken one names itself", "[zmq]") {
  Net n;
  ZmqSocket a(n.loop, n.context, ZmqType::Router, {});
  const std::string endpoint = a.bind("tcp://127.0.0.1:*");
  CHECK(endpoint.starts_with("tcp://127.0.0.1:"));
  CHECK(endpoint != "tcp://127.0.0.1:0");
  ZmqSocket b(n.loop, n.context, ZmqType::Router, {});
  CHECK_THROWS_WITH(b.bind(endpoint), Catch::Contains(endpoint));
}

TEST_CASE("one socket serves IPv4 and IPv6", "[zmq]") {
  Net n;
  ZmqSocket server(n.loop, n.context, ZmqType::Router, {});
  std::set<std::string> peers;
  server.on_message(
      [&peers](std::vector<Bytes>, const ZmqSender& sender) { peers.insert(sender.address()); });
  const auto v4 = parse_endpoint(server.bind("tcp://127.0.0.1:*"));
  const auto v6 = parse_endpoint(server.bind("tcp://[::1]:*"));
  const auto all = parse_endpoint(server.bind("tcp://*:*"));
  REQUIRE((v4 && v6 && all));
  CHECK(v6->host == "::1");
  BlockingZmqSocket a(n.context, ZmqType::Dealer, {}), b(n.context, ZmqType::Dealer, {}),
      c(n.context, ZmqType::Dealer, {});
  a.connect(v6->to_string());
  b.connect(tcp_endpoint("127.0.0.1", all->port));
  c.connect(v4->to_string());
  REQUIRE(a.send({"x"}, 5s));
  REQUIRE(b.send({"x"}, 5s));
  REQUIRE(c.send({"x"}, 5s));
  REQUIRE(n.until([&peers] { return peers.size() == 2; }));
  CHECK(peers == std::set<std::string>{"127.0.0.1", "::1"});
}

TEST_CASE("only literal addresses are connected to", "[zmq]") {
  Net n;
  ZmqSocket a(n.loop, n.context, ZmqType::Sub, ZmqOptions::subscriber());
  CHECK_THROWS_AS(a.connect("tcp://localhost:1"), std::invalid_argument);
  CHECK_THROWS_AS(a.connect("localhost"), std::invalid_argument);
}

TEST_CASE("many messages that arrive at once are all taken", "[zmq]") {
  Net n;
  ZmqSocket pull(n.loop, n.context, ZmqType::Router, {});
  std::size_t got = 0, drains = 0, most = 0, since = 0;
  pull.on_message([&got, &since](std::vector<Bytes> parts, const ZmqSender&) {
    CHECK(parts.size() == 2);
    ++got;
    ++since;
  });
  pull.on_drained([&drains, &most, &since] {
    ++drains;
    most = std::max(most, since);
    since = 0;
  });
  const std::string endpoint = pull.bind("tcp://127.0.0.1:*");
  ZmqOptions options;
  options.linger = 5s;
  options.send_hwm = 0;
  // Everything is on its way before the loop first looks.
  BlockingZmqSocket push(n.context, ZmqType::Dealer, options);
  push.connect(endpoint);
  for (int i = 0; i < 5000; ++i) REQUIRE(push.send({fmt::format("{}", i)}, 5s));
  REQUIRE(n.until([&got] { return got == 5000; }));
  CHECK(most <= 512);
  CHECK(drains >= 5000 / 512);
}

TEST_CASE("a long queue leaves other callbacks their turn", "[zmq]") {
  Net n;
  ZmqSocket pull(n.loop, n.context, ZmqType::Dealer, {});
  std::size_t got = 0, ticks = 0;
  pull.on_frame([&got](ByteView, const ZmqSender&) {
    const auto end = std::chrono::steady_clock::now() + 50us;
    while (std::chrono::steady_clock::now() < end) {
    }
    ++got;
  });
  ZmqOptions options;
  options.linger = 5s;
  BlockingZmqSocket push(n.context, ZmqType::Dealer, options);
  push.connect(pull.bind("tcp://127.0.0.1:*"));
  base::Timer timer(n.loop);
  std::function<void()> tick = [&timer, &ticks, &tick] {
    ++ticks;
    timer.start(5ms, [&tick] { tick(); });
  };
  tick();
  for (int i = 0; i < 2000; ++i) REQUIRE(push.send({"x"}, 5s));  // 100 ms of work
  REQUIRE(n.until([&got] { return got == 2000; }));
  CHECK(ticks >= 5);
}

TEST_CASE("a message that comes while we send is not forgotten", "[zmq]") {
  Net n;
  ZmqSocket a(n.loop, n.context, ZmqType::Dealer, Net::quick());
  int got = 0;
  a.on_message([&got](std::vector<Bytes>, const ZmqSender&) { ++got; });
  BlockingZmqSocket b(n.context, ZmqType::Dealer, Net::quick());
  b.connect(a.bind("tcp://127.0.0.1:*"));
  for (int round = 0; round < 200; ++round) {
    REQUIRE(b.send({"question"}, 5s));
    // The send takes in what the descriptor was about to tell of.
    for (int i = 0; i < 3; ++i) a.send("x");
    REQUIRE(n.until([&got, round] { return got == round + 1; }, 5s));
    n.settle();
  }
}

TEST_CASE("messages of any number of frames keep their frames", "[zmq]") {
  Net n;
  ZmqSocket server(n.loop, n.context, ZmqType::Router, {});
  // An answer goes back to who asked.
  server.on_message([&server](std::vector<Bytes> parts, const ZmqSender& sender) {
    CHECK(sender.address() == "127.0.0.1");
    parts.push_back(Bytes(100'000, 'z'));  // handed over without a copy
    CHECK(server.send(std::move(parts)));
  });
  ZmqSocket client(n.loop, n.context, ZmqType::Dealer, {});
  std::vector<Bytes> answer;
  client.on_message(
      [&answer](std::vector<Bytes> parts, const ZmqSender&) { answer = std::move(parts); });
  client.connect(server.bind("tcp://127.0.0.1:0"));
  REQUIRE(client.send(std::vector<Bytes>{"a", "", Bytes("b\0c", 3)}));
  REQUIRE(n.until([&answer] { return !answer.empty(); }));
  CHECK(answer == std::vector<Bytes>{"a", "", Bytes("b\0c", 3), Bytes(100'000, 'z')});
}

TEST_CASE("messages beyond the limits are dropped and counted", "[zmq]") {
  Net n;
  std::vector<std::size_t> sizes;
  BlockingZmqSocket b(n.context, ZmqType::Dealer, {});
  SECTION("frames where one is wanted") {
    ZmqSocket a(n.loop, n.context, ZmqType::Dealer, {});
    a.on_frame([&sizes](ByteView frame, const ZmqSender&) { sizes.push_back(frame.size()); });
    b.connect(a.bind("tcp://127.0.0.1:*"));
    REQUIRE(b.send({"x", "y"}, 5s));
    REQUIRE(b.send({"x"}, 5s));
    REQUIRE(n.until([&sizes] { return !sizes.empty(); }));
    CHECK(a.malformed() == 1);
  }
  SECTION("too many frames, too many bytes") {
    ZmqOptions options;
    options.limits = {3, 1000};
    ZmqSocket a(n.loop, n.context, ZmqType::Dealer, options);
    a.on_message([&sizes](std::vector<Bytes> p, const ZmqSender&) { sizes.push_back(p.size()); });
    b.connect(a.bind("tcp://127.0.0.1:*"));
    REQUIRE(b.send({"1", "2", "3", "4"}, 5s));
    REQUIRE(b.send({Bytes(600, 'x'), Bytes(401, 'x')}, 5s));
    REQUIRE(b.send({Bytes(600, 'x'), Bytes(400, 'x')}, 5s));
    REQUIRE(n.until([&sizes] { return !sizes.empty(); }));
    CHECK(sizes == std::vector<std::size_t>{2});
    CHECK(a.malformed() == 2);
  }
}

TEST_CASE("a peer that sends too big a frame is disconnected, others are served", "[zmq]") {
  Net n;
  ZmqOptions options;
  options.max_frame_size = 1000;
  ZmqSocket a(n.loop, n.context, ZmqType::Router, options);
  std::multiset<Bytes> got;
  int lost = 0;
  a.on_message([&got](std::vector<Bytes> parts, const ZmqSender&) { got.insert(parts.at(1)); });
  a.on_event([&lost](const ZmqEvent& e) { lost += e.kind == ZmqEvent::Kind::Disconnected; });
  const std::string endpoint = a.bind("tcp://127.0.0.1:*");
  BlockingZmqSocket rude(n.context, ZmqType::Dealer, {}), polite(n.context, ZmqType::Dealer, {});
  rude.connect(endpoint);
  polite.connect(endpoint);
  REQUIRE(rude.send({Bytes(1001, 'x')}, 5s));
  REQUIRE(n.until([&lost] { return lost > 0; }));
  REQUIRE(polite.send({Bytes(1000, 'y')}, 5s));
  REQUIRE(n.until([&got] { return !got.empty(); }));
  CHECK(got.begin()->front() == 'y');
}

TEST_CASE("subscribers get what they asked for, after the welcome", "[zmq]") {
  Net n;
  ZmqOptions options = ZmqOptions::publisher();
  options.welcome = "\x01welcome";
  ZmqSocket pub(n.loop, n.context, ZmqType::XPub, options);
  std::vector<Bytes> asked, got;
  pub.on_frame([&asked](ByteView frame, const ZmqSender&) { asked.emplace_back(frame); });
  ZmqSocket sub(n.loop, n.context, ZmqType::Sub, ZmqOptions::subscriber());
  sub.on_frame([&got](ByteView frame, const ZmqSender&) { got.emplace_back(frame); });
  sub.subscribe("\x01");
  sub.subscribe("a.");
  sub.connect(pub.bind("tcp://127.0.0.1:*"));
  REQUIRE(n.until([&got, &asked] { return got.size() == 1 && asked.size() == 2; }));
  CHECK(got[0] == "\x01welcome");
  CHECK(std::set<Bytes>(asked.begin(), asked.end()) == std::set<Bytes>{"\x01\x01",
                                                                       "\x01"
                                                                       "a."});
  CHECK(pub.send("b.x"));
  CHECK(pub.send("a.x"));
  REQUIRE(n.until([&got] { return got.size() == 2; }));
  CHECK(got[1] == "a.x");
  sub.unsubscribe("a.");
  REQUIRE(n.until([&asked] { return asked.size() == 3; }));
  CHECK(asked[2] == Bytes("\0a.", 3));

  // A new welcome is for those who come later.
  pub.set_welcome("\x01second");
  got.clear();
  ZmqSocket late(n.loop, n.context, ZmqType::Sub, ZmqOptions::subscriber());
  late.on_frame([&got](ByteView frame, const ZmqSender&) { got.emplace_back(frame); });
  late.subscribe("\x01");
  late.connect(pub.bind("tcp://127.0.0.1:*"));
  REQUIRE(n.until([&got] { return !got.empty(); }));
  CHECK(got[0] == "\x01second");
}

TEST_CASE("a publisher nobody sends with still takes subscriptions", "[zmq]") {
  Net n;
  ZmqSocket pub(n.loop, n.context, ZmqType::Pub, ZmqOptions::publisher());
  ZmqSocket sub(n.loop, n.context, ZmqType::Sub, ZmqOptions::subscriber());
  int got = 0;
  bool connected = false;
  sub.on_frame([&got](ByteView, const ZmqSender&) { ++got; });
  sub.on_event(
      [&connected](const ZmqEvent& e) { connected |= e.kind == ZmqEvent::Kind::Connected; });
  sub.subscribe("");
  sub.connect(pub.bind("tcp://127.0.0.1:*"));
  REQUIRE(n.until([&connected] { return connected; }));
  REQUIRE(n.until([&got, &pub] {
    pub.send("x");
    return got > 0;
  }));
}

TEST_CASE("five thousand subscriptions survive a reconnection", "[zmq]") {
  // With a high-water mark on the SUB all but the first thousand would be lost, and nobody told.
  Net n;
  ZmqSocket pub(n.loop, n.context, ZmqType::XPub, ZmqOptions::publisher());
  int asked = 0;
  pub.on_frame([&asked](ByteView frame, const ZmqSender&) { asked += frame[0] == 1 ? 1 : -1; });
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  ZmqSocket sub(n.loop, n.context, ZmqType::Sub, ZmqOptions::subscriber());
  for (int i = 0; i < 5000; ++i) sub.subscribe(fmt::format("topic-{}.", i));
  sub.connect(endpoint);
  REQUIRE(n.until([&asked] { return asked == 5000; }));
  sub.disconnect(endpoint);
  REQUIRE(n.until([&asked] { return asked == 0; }));
  sub.connect(endpoint);
  REQUIRE(n.until([&asked] { return asked == 5000; }));
}

TEST_CASE("peers coming and going are told", "[zmq]") {
  Net n;
  ZmqSocket a(n.loop, n.context, ZmqType::Dealer, Net::quick());
  std::vector<ZmqEvent> events;
  a.on_event([&events](const ZmqEvent& event) { events.push_back(event); });
  std::string endpoint;
  {
    BlockingZmqSocket b(n.context, ZmqType::Dealer, {});
    endpoint = b.bind("tcp://127.0.0.1:*");
    a.connect(endpoint);
    REQUIRE(n.until([&events] { return !events.empty(); }));
    CHECK(events[0].kind == ZmqEvent::Kind::Connected);
    CHECK(events[0].endpoint == endpoint);
  }
  REQUIRE(n.until([&events] { return events.size() >= 3; }));
  CHECK(events[1].kind == ZmqEvent::Kind::Disconnected);
  CHECK(events.back().kind == ZmqEvent::Kind::Retrying);
}

TEST_CASE("a socket may be destroyed in its own callbacks", "[zmq]") {
  Net n;
  BlockingZmqSocket b(n.context, ZmqType::Dealer, {});
  std::optional<ZmqSocket> a(std::in_place, n.loop, n.context, ZmqType::Dealer, ZmqOptions());
  int got = 0;
  a->on_frame([&a, &got](ByteView frame, const ZmqSender&) {
    ++got;
    a.reset();
    CHECK(frame == "x");  // valid until the callback returns
  });
  b.connect(a->bind("tcp://127.0.0.1:*"));
  for (int i = 0; i < 5; ++i) REQUIRE(b.send({"x"}, 5s));
  REQUIRE(n.until([&a] { return !a; }));
  n.settle();
  CHECK(got == 1);
}

TEST_CASE("without a peer a dealer refuses once its queue is full", "[zmq]") {
  Net n;
  ZmqOptions options;
  options.send_hwm = 5;
  ZmqSocket a(n.loop, n.context, ZmqType::Dealer, options);
  CHECK_FALSE(a.send("x"));  // nobody at all
  BlockingZmqSocket gone(n.context, ZmqType::Dealer, {});
  const std::string endpoint = gone.bind("tcp://127.0.0.1:*");
  const std::string nobody = "tcp://127.0.0.1:1";
  a.connect(nobody);
  int taken = 0;
  while (taken < 1000 && a.send("x")) ++taken;
  CHECK(taken == 5);
}

TEST_CASE("a sender on a local socket is named by its credentials", "[zmq]") {
  Net n;
  const test::TempDir dir;
  ZmqSocket a(n.loop, n.context, ZmqType::Router, {});
  std::string address;
  a.on_message(
      [&address](std::vector<Bytes>, const ZmqSender& sender) { address = sender.address(); });
  BlockingZmqSocket b(n.context, ZmqType::Dealer, {});
  b.connect(a.bind("ipc://" + dir / "s"));
  REQUIRE(b.send({"x"}, 5s));
  REQUIRE(n.until([&address] { return !address.empty(); }));
  CHECK(address == fmt::format(":{}:{}:{}", ::getuid(), ::getgid(), ::getpid()));
}

TEST_CASE("the blocking socket gives up at its deadline", "[zmq]") {
  ZmqContext context;
  BlockingZmqSocket a(context, ZmqType::Dealer, {}), b(context, ZmqType::Dealer, {});
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(a.receive(20ms));
  CHECK_FALSE(a.send({"x"}, 20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 40ms);
  b.connect(a.bind("tcp://127.0.0.1:*"));
  REQUIRE(b.send({"x", "y"}, 5s));
  CHECK(a.receive(5s) == std::vector<Bytes>{"x", "y"});
}
