#include "bus/net/endpoint.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus::net;

TEST_CASE("endpoints are read and written back", "[endpoint]") {
  for (const char* text :
       {"tcp://127.0.0.1:9940", "tcp://[2001:db8::1]:9940", "tcp://host-1.example:1",
        "ipc:///run/mirrorbus/submit", "ipc://@abstract", "inproc://x"}) {
    const auto endpoint = parse_endpoint(text);
    REQUIRE(endpoint);
    CHECK(endpoint->to_string() == text);
  }
  CHECK(parse_endpoint("tcp://*:9940")->host == "*");
  CHECK(parse_endpoint("tcp://127.0.0.1:*")->port == 0);
}

TEST_CASE("what is no endpoint is refused", "[endpoint]") {
  for (const char* text :
       {"", "tcp://", "tcp://:1", "tcp://a", "tcp://a:", "tcp://a:65536", "tcp://a:-1",
        "tcp://a:1x", "tcp://a b:1", "tcp://::1:9", "tcp://[::1:9", "tcp://[a]:9",
        "tcp://[1.2.3.4]:9", "udp://1.2.3.4:1", "ipc://", "127.0.0.1:1", "tcp://a/b:1"})
    CHECK_FALSE(parse_endpoint(text));
  CHECK_FALSE(parse_endpoint("tcp://" + std::string(300, 'a') + ":1"));
  CHECK_FALSE(parse_endpoint(std::string("ipc://a\0b", 9)));
}

TEST_CASE("only numbers are literal", "[endpoint]") {
  CHECK(parse_endpoint("tcp://127.0.0.1:1")->is_literal());
  CHECK(parse_endpoint("tcp://[::1]:1")->is_literal());
  CHECK(parse_endpoint("ipc:///x")->is_literal());
  CHECK_FALSE(parse_endpoint("tcp://localhost:1")->is_literal());
  CHECK_FALSE(parse_endpoint("tcp://*:1")->is_literal());
  CHECK_FALSE(parse_endpoint("tcp://1.2.3:1")->is_literal());
  CHECK(tcp_endpoint("::1", 5) == "tcp://[::1]:5");
}

TEST_CASE("listeners are host and port", "[endpoint]") {
  CHECK(parse_host_port("127.0.0.1:80")->port == 80);
  CHECK(parse_host_port("[::1]:80")->host == "::1");
  CHECK(parse_host_port(":80")->host.empty());
  for (const char* text : {"", "80", "a:", "*:80", "127.0.0.1:*", "::1:80"})
    CHECK_FALSE(parse_host_port(text));
}
