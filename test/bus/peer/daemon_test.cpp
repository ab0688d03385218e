// The frame, from outside: a small daemon is started and treated as operators and systemd would.
#include "bus/net/http_client.hpp"
#include "bus/peer/control_socket.hpp"
#include "test/support/process.hpp"
#include "test/support/temp_dir.hpp"

#include <cstdlib>
#include <functional>

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using namespace std::chrono_literals;
using test::Process;

namespace {

struct Fixture {
  test::TempDir dir;
  std::string state = dir / "a/state";
  std::string program = std::getenv("FRAME_DAEMON");

  std::string config(const std::string& sample, const std::string& bus = "") const {
    return dir.write("d.toml", fmt::format("[bus]\nprefix = \"org.example\"\npublisher = \"s@h\"\n"
                                           "state = \"{}\"\n{}\n[http]\nlisten = \"127.0.0.1:0\"\n"
                                           "[sample]\n{}\n",
                                           state, bus, sample));
  }
  std::vector<std::string> command() const { return {program, "--config", dir / "d.toml"}; }
  peer::ControlAnswer ask(const std::string& verb) const {
    return peer::ControlClient(state + "/control.sock").call(proto::Map{{"verb", verb}}, 5s);
  }
  std::pair<int, std::string> page(const std::string& path) const {
    const auto info = ask("info");
    const std::string url =
        fmt::format("http://127.0.0.1:{}{}", *info->find("http_port")->as_u64(), path);
    std::string body;
    net::HttpClient client;
    const auto result =
        client.get(url, [&body](std::string_view b) { return body.append(b), true; });
    return {result->status, result->ok() ? body : result->error_text};
  }
};

// Runs a command to its end.
std::pair<int, std::string> run(const std::vector<std::string>& command) {
  Process process(command);
  const int code = process.wait().value_or(-1000);
  return {code, process.output()};
}

}  // namespace

TEST_CASE("the command line of every daemon", "[daemon]") {
  Fixture f;
  f.config("word = \"a\"");
  auto [code, text] = run({f.program, "--help"});
  CHECK(code == 0);
  CHECK_THAT(text, Catch::Contains("--check-config") && Catch::Contains("does nothing, well"));
  std::tie(code, text) = run({f.program, "--version"});
  CHECK(code == 0);
  CHECK_THAT(text, Catch::StartsWith("bus-sampled 0."));
  CHECK(run({f.program}).first == 2);
  CHECK(run({f.program, "--nonsense"}).first == 2);
  std::tie(code, text) = run({f.program, "--config", f.dir / "d.toml", "--check-config"});
  CHECK(code == 0);
  CHECK_THAT(text, Catch::EndsWith("d.toml: good\n"));
  CHECK_FALSE(std::filesystem::exists(f.state));
  std::tie(code, text) = run({f.program, "--config", f.dir / "none.toml"});
  CHECK(code == 1);
  CHECK_THAT(text, Catch::Contains("none.toml: No such file"));
  f.config("wurd = \"a\"");
  std::tie(code, text) = run({f.program, "--config", f.dir / "d.toml", "--check-config"});
  CHECK(code == 1);
  CHECK_THAT(text,
             Catch::Contains("d.toml:9: [sample] wurd: unknown key, known are: trouble, word"));
  f.dir.write("d.toml", "[bus]\nprefix = \"org.example\"\n");
  std::tie(code, text) = run({f.program, "--config", f.dir / "d.toml", "--check-config"});
  CHECK(code == 1);
  CHECK_THAT(text, Catch::Contains("d.toml:1: [bus] state: is required"));
}

TEST_CASE("it starts, shows itself, and drains on SIGTERM", "[daemon]") {
  Fixture f;
  f.config("word = \"bad\"");
  Process daemon(f.command());
  REQUIRE(daemon.wrote("started as s@h"));
  struct stat info {};
  REQUIRE(::stat(f.state.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  CHECK(f.ask("word") == peer::ControlAnswer(proto::Value("bad")));
  CHECK(f.page("/healthz") == std::pair<int, std::string>(200, "ok\n"));
  CHECK(f.page("/readyz") == std::pair<int, std::string>(503, "word: is bad\n"));
  const auto [status, metrics] = f.page("/metrics");
  CHECK(status == 200);
  CHECK_THAT(metrics, Catch::Contains("mirrorbus_build_info{version=\"0."));
  daemon.signal(SIGTERM);
  CHECK(daemon.wait() == 0);
  CHECK_THAT(daemon.output(), Catch::Contains("drained") && Catch::Contains("stopped"));
  CHECK_FALSE(std::filesystem::exists(f.state + "/control.sock"));
}

TEST_CASE("a second one on the same state is refused", "[daemon]") {
  Fixture f;
  f.config("");
  Process first(f.command());
  REQUIRE(first.wrote("started"));
  const auto [code, text] = run(f.command());
  CHECK(code == 1);
  CHECK_THAT(text,
             Catch::Contains(fmt::format("{} is in use by process {}", f.state, first.pid())));
  CHECK(f.ask("word"));  // the first one is unharmed
  first.signal(SIGKILL);
  CHECK(first.wait() == -SIGKILL);
  Process third(f.command());
  CHECK(third.wrote("started"));
}

TEST_CASE("a reload is all or nothing", "[daemon]") {
  Fixture f;
  f.config("word = \"one\"");
  Process daemon(f.command());
  REQUIRE(daemon.wrote("started"));
  const auto reload = [&daemon](const std::string& expected) {
    daemon.signal(SIGHUP);
    return daemon.wrote(expected);
  };
  f.config("word = \"two\"");
  CHECK(reload("word is now two"));
  CHECK(f.ask("word") == peer::ControlAnswer(proto::Value("two")));
  f.config("word = \"refused\"");
  CHECK(reload("not reloaded, everything stays as it was: that word is refused"));
  f.config("word = 7");
  CHECK(reload("d.toml:9: [sample] word: is a number"));
  f.config("word = \"three\"", "publish = \"tcp://127.0.0.1:1\"\ndurability = \"off\"");
  CHECK(reload("[bus] publish, [bus] durability cannot change while the daemon runs"));
  CHECK(f.ask("word") == peer::ControlAnswer(proto::Value("two")));
  f.config("word = \"four\"", "log_level = \"error\"");
  daemon.signal(SIGHUP);
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (f.ask("word") != peer::ControlAnswer(proto::Value("four")) &&
         std::chrono::steady_clock::now() < end) {
  }
  CHECK(f.ask("word") == peer::ControlAnswer(proto::Value("four")));
  CHECK(daemon.output().find("word is now four") == std::string::npos);  // it has become quiet
}

TEST_CASE("failures end it with 1 and a reason", "[daemon]") {
  Fixture f;
  SECTION("at the start") {
    f.config("trouble = \"start\"");
    const auto [code, text] = run(f.command());
    CHECK(code == 1);
    CHECK_THAT(text, Catch::Contains("cannot start"));
  }
  SECTION("a port in use") {
    f.config("");
    Process first(f.command());
    REQUIRE(first.wrote("started"));
    const std::string listen =
        fmt::format("127.0.0.1:{}", *f.ask("info")->find("http_port")->as_u64());
    f.dir.write(
        "d.toml",
        fmt::format("[bus]\nprefix = \"org.example\"\nstate = \"{}\"\n[http]\nlisten = \"{}\"\n",
                    f.dir / "other", listen));
    const auto [code, text] = run(f.command());
    CHECK(code == 1);
    CHECK_THAT(text, Catch::Contains("listening on " + listen + ": Address already in use"));
  }
  SECTION("told so, or an exception on the loop") {
    const auto [verb, reason] = GENERATE(table<std::string, std::string>(
        {{"fail", "told to fail"}, {"throw-on-loop", "broken world"}}));
    f.config("");
    Process daemon(f.command());
    REQUIRE(daemon.wrote("started"));
    try {
      f.ask(verb);
    } catch (const std::runtime_error&) {  // it may be gone before it answers
    }
    CHECK(daemon.wait() == 1);
    CHECK_THAT(daemon.output(), Catch::Contains(reason));
  }
}

TEST_CASE("it can end itself cleanly", "[daemon]") {
  Fixture f;
  f.config("");
  Process daemon(f.command());
  REQUIRE(daemon.wrote("started"));
  try {
    f.ask("stop");
  } catch (const std::runtime_error&) {  // it may be gone before it answers
  }
  CHECK(daemon.wait() == 0);
}

TEST_CASE("a second signal while draining ends it at once", "[daemon]") {
  Fixture f;
  f.config("trouble = \"never drains\"");
  Process daemon(f.command());
  REQUIRE(daemon.wrote("started"));
  daemon.signal(SIGTERM);
  REQUIRE(daemon.wrote("stopping"));
  CHECK(f.page("/readyz").second == "daemon: stopping\n");
  daemon.signal(SIGTERM);
  CHECK(daemon.wait() == -SIGTERM);
}

TEST_CASE("draining has an end, and so has destruction", "[daemon][slow]") {
  Fixture f;
  const auto [trouble, said] = GENERATE(table<std::string, std::string>(
      {{"never drains", "could be finished in time"}, {"never ends", "leaving"}}));
  f.config("trouble = \"" + trouble + "\"");
  Process daemon(f.command());
  REQUIRE(daemon.wrote("started"));
  const auto start = std::chrono::steady_clock::now();
  daemon.signal(SIGTERM);
  CHECK(daemon.wait() == 0);
  CHECK(std::chrono::steady_clock::now() - start < 11s);
  CHECK_THAT(daemon.output(), Catch::Contains(said));
}

TEST_CASE("systemd is told what goes on", "[daemon]") {
  Fixture f;
  f.config("word = \"one\"");
  const std::string path = f.dir / "notify";
  const base::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const timeval limit{10, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  std::string said;
  const auto told = [&socket, &said](const std::string& what) {
    char block[512];
    while (said.find(what) == std::string::npos) {
      const ssize_t got = ::recv(socket.get(), block, sizeof block, 0);
      if (got < 0) return false;
      said.append(block, static_cast<std::size_t>(got)).append("\n");
    }
    said.erase(0, said.find(what) + what.size());
    return true;
  };
  Process daemon(f.command(), {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=60000"});
  CHECK(told("READY=1"));
  CHECK(told("WATCHDOG=1"));
  CHECK(told("WATCHDOG=1"));
  daemon.signal(SIGHUP);
  CHECK(told("RELOADING=1\nMONOTONIC_USEC="));
  CHECK(told("READY=1"));
  daemon.signal(SIGTERM);
  CHECK(told("STOPPING=1"));
  CHECK(daemon.wait() == 0);
}
