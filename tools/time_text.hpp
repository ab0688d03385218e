// Times as people write and read them: always UTC.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mirrorbus::tools {

// "2026-11-20T12:00:00.000000000Z". Times are nanoseconds since 1970.
std::string utc(std::uint64_t time_ns);
// "2026-11-20T12:00:00Z"
std::string utc_seconds(std::uint64_t time_ns);

// "2026-11-20", "2026-11-20T12:00", "2026-11-20T12:00:00", with or without Z, or "@SECONDS".
std::optional<std::uint64_t> parse_time(const std::string& text);

}  // namespace mirrorbus::tools
