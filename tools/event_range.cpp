#include "tools/event_range.hpp"

#include <charconv>

namespace mirrorbus::tools {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<EventRange> EventRange::parse(std::string_view text) {
  EventRange range;
  if (const std::size_t colon = text.find(':'); colon != text.npos) {
    range.epoch = parse_number(text.substr(0, colon));
    if (!range.epoch) return std::nullopt;
    text.remove_prefix(colon + 1);
  }
  const std::size_t dots = text.find("..");
  if (dots == text.npos) return std::nullopt;
  const auto from = parse_number(text.substr(0, dots));
  if (!from || *from == 0) return std::nullopt;
  range.from = *from;
  if (const std::string_view to = text.substr(dots + 2); !to.empty()) {
    range.to = parse_number(to);
    if (!range.to || *range.to < range.from) return std::nullopt;
  }
  return range;
}

}  // namespace mirrorbus::tools
