// What is said of a configuration that is refused.
#pragma once

#include "bus/base/config.hpp"

#include <string>

namespace mirrorbus::test {

// The text of the ConfigError that `read` throws; "no error" if it throws none.
template <class Read>
std::string config_error(Read read) {
  try {
    read();
  } catch (const base::ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace mirrorbus::test
