#include "bus/peer/asker.hpp"

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
    return [this](proto::Decoded<proto::Answer> answer) {
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
    on_answer(proto::refuse(proto::Reject::Unavailable));
  }
  CHECK(f.refused.size() == 2);
}
