#include "tools/tool_config.hpp"

#include "bus/base/config.hpp"
#include "bus/base/log.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

namespace mirrorbus::tools {

ToolConfig load_tool_config(const std::string& path) {
  ToolConfig tool;
  if (path.empty()) return tool;
  const base::Config config = base::Config::load(path);
  tool.settings = peer::Settings::read(config, "tool");
  tool.relay = config.table("relay").text("connect", "");
  tool.token_file = config.table("relay").text("token_file", "");
  return tool;
}

int run_tool(const char* name, int (*tool)(int, char**), int argc, char** argv) noexcept {
  try {
    return tool(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name, base::describe(error));
  } catch (...) {
    fmt::print(stderr, "{}: unknown failure\n", name);
  }
  return EXIT_FAILURE;
}

bool parse_options(CLI::App& app, int argc, char** argv, int& exit_code) {
  app.set_version_flag("--version", MIRRORBUS_VERSION);
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return fmt::format("{}: {}\nTry '{} --help'.\n", failed->get_name(), error.what(),
                       failed->get_name());
  });
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
    return false;
  }
}

}  // namespace mirrorbus::tools
