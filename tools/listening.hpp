// Where to listen and whom to believe: what every listening tool takes on its command line.
#pragma once

#include "bus/base/command_line.hpp"
#include "bus/peer/settings.hpp"
#include "proto/topic.hpp"

#include <expected>
#include <string>
#include <vector>

namespace mirrorbus::tools {

struct ListenOptions {
  std::string config;
  std::vector<std::string> domains, endpoints;
  std::string keyring;

  void add_to(base::CommandOptions& line);
  // The file's settings, and what the other options say instead. The error is for people: wrong
  // usage. Raises base::ConfigError.
  std::expected<peer::Settings, std::string> settings() const;
};

// Throws std::runtime_error that names what is no topic pattern.
std::vector<proto::TopicPattern> topic_patterns(const std::vector<std::string>& texts);

}  // namespace mirrorbus::tools
