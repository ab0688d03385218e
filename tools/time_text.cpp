#include "tools/time_text.hpp"

#include <cstdlib>
#include <ctime>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

std::string whole_seconds(std::uint64_t time_ns) {
  const std::time_t seconds = static_cast<std::time_t>(time_ns / kNsPerSecond);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return text;
}

}  // namespace

std::string utc(std::uint64_t time_ns) {
  return fmt::format("{}.{:09}Z", whole_seconds(time_ns), time_ns % kNsPerSecond);
}

std::string utc_seconds(std::uint64_t time_ns) { return whole_seconds(time_ns) + "Z"; }

std::optional<std::uint64_t> parse_time(const std::string& text) {
  if (text.starts_with("@")) {
    char* end = nullptr;
    const double seconds = std::strtod(text.c_str() + 1, &end);
    // Not above what the formats' nanoseconds can say.
    if (end == text.c_str() + 1 || *end != '\0' || !(seconds >= 0 && seconds < 1.8e10))
      return std::nullopt;
    return static_cast<std::uint64_t>(seconds * 1e9);
  }
  for (const char* format :
       {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"}) {
    std::tm parts{};
    const char* end = strptime(text.c_str(), format, &parts);
    if (end && *end == '\0') return static_cast<std::uint64_t>(timegm(&parts)) * kNsPerSecond;
  }
  return std::nullopt;
}

}  // namespace mirrorbus::tools
