// What every tool takes from a configuration file (a daemon's serves too) and the common options.
#pragma once

#include "bus/peer/settings.hpp"

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace mirrorbus::tools {

struct ToolConfig {
  peer::Settings settings;
  std::string relay;       // [relay] connect
  std::string token_file;  // [relay] token_file
};

// The parts of `path` that tools use; defaults if it is empty. Raises base::ConfigError.
ToolConfig load_tool_config(const std::string& path);

// Runs `tool` and turns what it throws into a line on stderr and exit code 1.
int run_tool(const char* name, int (*tool)(int, char**), int argc, char** argv) noexcept;

// Parses; true if the program should go on, else `exit_code` says how to end (0 for --help and
// --version, 2 for a usage error, with what to do on stderr).
bool parse_options(CLI::App& app, int argc, char** argv, int& exit_code);

}  // namespace mirrorbus::tools
