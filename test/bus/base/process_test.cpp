#include "bus/base/process.hpp"

#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>

#include <fcntl.h>

using namespace mirrorbus;
using namespace std::chrono_literals;
using base::Process;

namespace {

struct Run {
  test::TestLoop loop;
  std::vector<std::string> lines;
  std::optional<Process::End> end;
  std::unique_ptr<Process> process;

  explicit Run(const base::ProcessOptions& options) {
    process = std::make_unique<Process>(
        loop.loop, options, [this](std::string_view line) { lines.emplace_back(line); },
        [this](const Process::End& e) { end = e; });
  }
  const Process::End& wait() {
    REQUIRE(loop.until([this] { return end.has_value(); }));
    return *end;
  }
};
using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a program runs with arguments no shell has seen", "[process]") {
  Run run({{"printf", "%s\\n", "$HOME; ls", "*"}, {}, "", "", 0ns});
  CHECK(run.wait().good());
  CHECK(run.lines == Lines{"$HOME; ls", "*"});
}

TEST_CASE("a program gets its input, directory and environment", "[process]") {
  test::TempDir tmp;
  tmp.write("in", "from a file");
  Run run({{"sh", "-c", "cat; echo; pwd; echo $WHAT; echo bad >&2; exit 3"}, {"WHAT=env"},
           tmp.path(), tmp / "in", 0ns});
  CHECK(run.wait().text() == "exit code 3");
  CHECK(run.lines == Lines{"from a file", tmp.path(), "env", "bad"});
}

TEST_CASE("what takes too long ends with all that it started", "[process]") {
  // The child ignores the first signal and would outlive its parent.
  Run run({{"sh", "-c", "(trap '' TERM; exec sleep 1000) & echo $!; wait"}, {}, "", "", 100ms});
  const auto& end = run.wait();
  CHECK(end.timed_out);
  CHECK(end.text() == "not done in time");
  REQUIRE(!run.lines.empty());
  const int child = std::stoi(run.lines.back());
  CHECK(run.loop.until([child] {
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string pid, name, state;
    return !(stat >> pid >> name >> state) || state == "Z";
  }));
}

TEST_CASE("a program that is not there is an error at once", "[process]") {
  test::TestLoop loop;
  CHECK_THROWS_WITH(Process(loop.loop, {{"/nowhere/to/be/found"}, {}, "", "", 0ns},
                            [](std::string_view) {}, [](const Process::End&) {}),
                    Catch::Contains("/nowhere/to/be/found"));
}

TEST_CASE("a program ends with its object", "[process]") {
  Run run({{"sh", "-c", "echo $$; exec sleep 1000"}, {}, "", "", 0ns});
  REQUIRE(run.loop.until([&] { return !run.lines.empty(); }));
  run.process.reset();
  CHECK(::kill(std::stoi(run.lines.front()), 0) != 0);
  CHECK_FALSE(run.end);
}

TEST_CASE("a program gets none of our descriptors", "[process]") {
  test::TempDir tmp;
  tmp.write("open", "");
  const base::Fd left(::open((tmp / "open").c_str(), O_RDONLY));  // as a library may leave it
  REQUIRE(left);
  Run run({{"sh", "-c", "ls -l /proc/$$/fd"}, {}, "", "", 0ns});
  CHECK(run.wait().good());
  for (const std::string& line : run.lines) CHECK(line.find(tmp / "open") == std::string::npos);
}

TEST_CASE("what is set for a program stands in its environment once", "[process]") {
  ::setenv("MIRRORBUS_TEST", "inherited", 1);
  Run run({{"env"}, {"MIRRORBUS_TEST=ours"}, "", "", 0ns});
  CHECK(run.wait().good());
  ::unsetenv("MIRRORBUS_TEST");
  Lines found;
  for (const std::string& line : run.lines)
    if (line.starts_with("MIRRORBUS_TEST=")) found.push_back(line);
  CHECK(found == Lines{"MIRRORBUS_TEST=ours"});
}
