#include "bus/peer/asker.hpp"

#include "bus/peer/serve_server.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;

namespace {

struct Fixture : test::TestLoop {
  test::TempDir tmp;
  net::ZmqContext context;
  peer::Asker asker{loop, context, [](proto::Reject) {}, 50ms};
  std::vector<proto::Reject> refused;

  peer::Asker::OnAnswer on_answer() {
    return [this](proto::Decoded<proto::Answer> answer, const std::string& from) {
      CHECK(from.empty());
      REQUIRE_FALSE(answer);
      refused.push_back(answer.error());
    };
  }
};

}  // namespace

TEST_CASE("nobody answers: unavailable, each time once", "[asker]") {
  Fixture f;
  for (std::size_t turn = 1; turn <= 3; ++turn) {
    f.asker.ask("ipc://" + (f.tmp / "nobody"), "info", {}, f.on_answer());
    CHECK(f.until([&] { return f.refused.size() == turn; }));
  }
  CHECK(f.refused == std::vector(3, proto::Reject::Unavailable));
}

TEST_CASE("where one cannot connect, the answer's handler stays with the caller", "[asker]") {
  Fixture f;
  for (int turn = 0; turn < 2; ++turn) {
    peer::Asker::OnAnswer on_answer = f.on_answer();
    CHECK_THROWS(f.asker.ask("tcp://no-address:1", "info", {}, std::move(on_answer)));
    REQUIRE(on_answer);
    on_answer(proto::refuse(proto::Reject::Unavailable), {});
  }
  CHECK(f.refused.size() == 2);
}

TEST_CASE("an answer says where it comes from", "[asker]") {
  Fixture f;
  base::Registry registry;
  peer::ServeServer server(f.loop, f.context, registry);
  std::vector<std::string> from;
  for (const std::string& endpoint :
       {server.bind("tcp://127.0.0.1:*"), server.bind("ipc://" + (f.tmp / "serve"))})
    f.asker.ask(endpoint, "no such verb", {},
                [&from](proto::Decoded<proto::Answer> answer, const std::string& where) {
                  CHECK(answer);
                  from.push_back(where);
                });
  REQUIRE(f.until([&] { return from.size() == 2; }));
  std::ranges::sort(from);
  CHECK(from.front() == "127.0.0.1");
  CHECK(from.back().starts_with(':'));  // a local socket: who is behind it
}

TEST_CASE("a connection that breaks is waited for no longer; the next one serves", "[asker]") {
  Fixture f;
  peer::Asker asker(f.loop, f.context, [](proto::Reject) {}, 1h);
  const std::string endpoint = "ipc://" + (f.tmp / "serve");
  {
    net::ZmqSocket silent(f.loop, f.context, net::ZmqType::Router, {});
    bool asked = false;
    silent.on_message([&asked](const auto&, const net::ZmqSender&) { asked = true; });
    silent.bind(endpoint);
    for (int i = 0; i < 2; ++i) asker.ask(endpoint, "info", {}, f.on_answer());
    REQUIRE(f.until([&] { return asked; }));
    CHECK(f.refused.empty());
  }
  CHECK(f.until([&] { return f.refused.size() == 2; }));
  CHECK(f.refused == std::vector(2, proto::Reject::Unavailable));

  base::Registry registry;
  peer::ServeServer server(f.loop, f.context, registry);
  server.bind(endpoint);
  bool answered = false;
  asker.ask(endpoint, "info", {}, [&answered](proto::Decoded<proto::Answer> answer,
                                              const std::string&) { answered = answer.has_value(); });
  CHECK(f.until([&] { return answered; }));
}
