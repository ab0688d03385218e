#include "tools/tool_config.hpp"

#include "bus/base/config.hpp"
#include "bus/base/log.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

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

std::string token_in(const std::string& file) {
  if (file.empty()) return {};
  const std::string token = peer::read_token(file).value_or("");
  if (token.empty()) throw std::runtime_error("no token can be read from " + file);
  return token;
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

}  // namespace mirrorbus::tools
