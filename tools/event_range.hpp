// A range of one publisher's events, as it is written on a command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mirrorbus::tools {

// Decimal digits and nothing else.
std::optional<std::uint64_t> parse_number(std::string_view text);

struct EventRange {
  std::optional<std::uint64_t> epoch;  // only events of this one; empty: of any
  std::uint64_t from = 1;
  std::optional<std::uint64_t> to;  // empty: the last there is

  // "FROM..TO", "FROM..", "EPOCH:FROM..TO": both ends belong to it, and seqs begin with 1.
  static std::optional<EventRange> parse(std::string_view text);
};

}  // namespace mirrorbus::tools
