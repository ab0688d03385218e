// What every tool takes from a configuration file (a daemon's serves too), and how it ends.
#pragma once

#include "bus/peer/settings.hpp"

#include <string>
#include <vector>

namespace mirrorbus::tools {

struct ToolConfig {
  peer::Settings settings;
  std::string relay;       // [relay] connect
  std::string token_file;  // [relay] token_file
};

// The parts of `path` that tools use; defaults if it is empty. Raises base::ConfigError.
ToolConfig load_tool_config(const std::string& path);

// The token in a file, "" where none is given. Throws std::runtime_error if there is none in it.
std::string token_in(const std::string& file);

// Runs `tool` and turns what it throws into a line on stderr and exit code 1.
int run_tool(const char* name, int (*tool)(int, char**), int argc, char** argv) noexcept;

}  // namespace mirrorbus::tools
