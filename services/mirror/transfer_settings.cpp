#include "services/mirror/transfer_settings.hpp"

#include "services/tree/path_filter.hpp"

namespace mirrorbus::mirror {
namespace {

// Below it content servers take a reader for dead.
constexpr std::uint64_t kLeast = 4096;

// As rsync --bwlimit has it: without a unit it is KiB. "0": nothing, where that is allowed.
std::uint64_t rate(const base::ConfigTable& table) {
  std::string text = table.text("bandwidth", "0");
  if (text.find_first_not_of("0123456789.") == std::string::npos) text += 'K';
  const auto rate = tree::parse_file_size(text);
  if (!rate)
    table.fail("bandwidth",
               "must be a rate as rsync has it: \"2m\", \"1.5m\", \"512\" (KiB a second)");
  if (*rate > 0 && *rate < kLeast) table.fail("bandwidth", "must be at least \"4\" (KiB a second)");
  return *rate;
}

unsigned minute(const base::ConfigTable& table, std::string_view key) {
  const std::string text = table.text(key);
  const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '9'; };
  if (text.size() == 5 && text[2] == ':' && digit(0) && digit(1) && digit(3) && digit(4)) {
    const auto number = [&](std::size_t at) {
      return static_cast<unsigned>((text[at] - '0') * 10 + (text[at + 1] - '0'));
    };
    if (number(0) < 24 && number(3) < 60) return number(0) * 60 + number(3);
    if (text == "24:00") return 0;
  }
  table.fail(key, "\"" + text + "\" is not a time of day, write \"08:00\"");
}

}  // namespace

RatePlan read_rates(const base::ConfigTable& table) {
  RatePlan plan;
  // "0" is rsync's word for no limit.
  if (const std::uint64_t usual = rate(table); usual > 0) plan.usual = usual;
  for (const base::ConfigTable& item : table.tables("schedule")) {
    item.text("bandwidth");  // required here
    plan.hours.push_back({minute(item, "from"), minute(item, "to"), rate(item)});
  }
  return plan;
}

TransferSettings TransferSettings::read(const base::ConfigTable& table) {
  TransferSettings settings;
  settings.rates = read_rates(table);
  settings.authorities = table.text("authorities", "");
  settings.dscp = static_cast<int>(table.integer("dscp", 0, 0, 63));
  return settings;
}

}  // namespace mirrorbus::mirror
