// bus-check: is everything reachable, trusted and in step? One line for each thing looked at.
#include "bus/base/command_line.hpp"
#include "bus/base/signals.hpp"
#include "tools/bus_checker.hpp"
#include "tools/listening.hpp"
#include "tools/tool_config.hpp"

#include <algorithm>
#include <csignal>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

int bus_check(int argc, char** argv) {
  ListenOptions listen;
  double timeout_s = 10;
  bool json = false;
  base::CommandLine line(
      "bus-check",
      "Looks at DNS, publishers, replay sources, keys, clocks and sequences of a bus: a line for "
      "each, that begins with ok, warning or wrong. Exit code 1 if anything is wrong.");
  listen.add_to(line);
  line.option("--timeout", timeout_s, "seconds for everything together");
  line.flag("--json", json, "one JSON object per line");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const auto settings = listen.settings();
  if (!settings || timeout_s < 0.1 || timeout_s > 3600) {
    fmt::print(stderr, "bus-check: {}\n",
               settings ? "--timeout takes 0.1 to 3600 seconds" : settings.error());
    return 2;
  }
  base::SystemClock clock;
  base::Loop loop(clock);
  net::ZmqContext context;
  bool interrupted = false;
  BusChecker checker(loop, context, *settings, base::from_seconds(timeout_s),
                     [&loop] { loop.stop(); });
  base::Signals signals(loop, {SIGTERM, SIGINT}, [&](int) {
    interrupted = true;
    loop.stop();
  });
  checker.start();
  loop.run();
  bool wrong = interrupted;
  for (const Finding& finding : checker.findings()) {
    fmt::print("{}\n", json ? finding.json() : finding.line());
    wrong |= finding.grade == Grade::Wrong;
  }
  return wrong ? 1 : 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-check", mirrorbus::tools::bus_check, argc, argv);
}
