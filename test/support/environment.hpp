// Numbers that whoever runs a test may give it: seeds, how many of them, how dense.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace mirrorbus::test {

// From an environment variable, or what is usual where it is not set.
inline std::uint64_t number_from(const char* variable, std::uint64_t usual) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : usual;
}

}  // namespace mirrorbus::test
