#include "tools/mirror_views.hpp"

#include "tools/time_text.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace mirrorbus::tools {

std::string text_of(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  if (!value) return "";
  if (const auto* text = value->as_text()) return *text;
  return value->is_null() ? "" : proto::to_json(*value);
}
double number_of(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  return value ? value->as_number().value_or(0) : 0;
}

namespace {

bool is_true(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  return value && value->as_bool().value_or(false);
}

// The worse, the further up.
std::ptrdiff_t badness(const std::string& state) {
  constexpr std::string_view kWorstFirst[] = {"failed",   "fork",     "refused",   "incomplete",
                                              "stale",    "paused",   "starting",  "scanning",
                                              "fetching", "applying", "verifying", "current"};
  return std::ranges::find(kWorstFirst, state) - std::begin(kWorstFirst);
}

// Lines of at most 80 columns, each set in by two, broken at spaces.
std::string wrapped(std::string_view text) {
  constexpr std::size_t kWidth = 78;
  std::string out;
  while (!text.empty()) {
    std::size_t size = text.size();
    if (size > kWidth) {
      size = text.rfind(' ', kWidth);
      if (size == 0 || size == std::string_view::npos) size = kWidth;
    }
    out += fmt::format("  {}\n", text.substr(0, size));
    text.remove_prefix(std::min(text.size(), size + (text.size() > size && text[size] == ' ')));
  }
  return out;
}

}  // namespace

std::string human_bytes(double bytes) {
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (bytes < 1000) return fmt::format("{:.{}f} {}", bytes, *unit == 'B' ? 0 : 1, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.1f} TB", bytes);
}

std::string human_seconds(double seconds) {
  if (seconds < 1) return seconds <= 0 ? "-" : fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string status_text(const proto::Value& answer) {
  proto::Array trees = answer.as_array() ? *answer.as_array() : proto::Array{};
  std::ranges::stable_sort(
      trees, {}, [](const proto::Value& tree) { return badness(text_of(tree, "state")); });
  std::string out = fmt::format("{:<16} {:<6} {:<11} {:>15} {:>8} {:>9} {:>8}\n", "TREE", "ROLE",
                                "STATE", "VERSION", "LAG", "RECEIVED", "SYNC");
  for (const proto::Value& tree : trees) {
    const auto version = static_cast<std::uint64_t>(number_of(tree, "version"));
    const auto head = static_cast<std::uint64_t>(number_of(tree, "head_version"));
    out += fmt::format(
        "{:<16.16} {:<6} {:<11} {:>15} {:>8} {:>9} {:>8}\n", text_of(tree, "name"),
        text_of(tree, "role"), text_of(tree, "state"),
        head > version ? fmt::format("{} of {}", version, head) : std::to_string(version),
        human_seconds(number_of(tree, "lag_seconds")),
        human_bytes(number_of(tree, "bytes_received")),
        human_seconds(number_of(tree, "last_sync_seconds")));
    out += wrapped(text_of(tree, "last_error"));
    out += wrapped(text_of(tree, "hook_error"));
    if (const std::string fidelity = text_of(tree, "fidelity"); fidelity != "full")
      out += wrapped("fidelity: " + fidelity);
  }
  return out;
}

std::string versions_text(const proto::Value& answer) {
  if (!answer.as_array()) return "";
  std::string out = fmt::format("{:>8} {:<20} {:<12} {:>9} {:>9} {:>9}  {}\n", "VERSION", "TIME",
                                "TREE", "ENTRIES", "SIZE", "PACK", "");
  for (const proto::Value& version : *answer.as_array()) {
    const proto::Value* time = version.find("time_ns");
    out += fmt::format(
        "{:>8.0f} {:<20} {:.12} {:>9.0f} {:>9} {:>9}{}{}\n", number_of(version, "number"),
        time ? utc_seconds(time->as_u64().value_or(0)) : "",
        text_of(version, "tree_hash"), number_of(version, "entries"),
        human_bytes(number_of(version, "bytes")), human_bytes(number_of(version, "pack_bytes")),
        is_true(version, "retained") ? "" : "  not here",
        is_true(version, "incomplete") ? "  incomplete" : "");
    const std::string held = text_of(version, "snapshot");
    if (!held.empty()) out.insert(out.size() - 1, "  " + held);
  }
  return out;
}

bool verified_equal(const proto::Value& found) { return is_true(found, "equal"); }

std::string verify_text(const proto::Value& answer) {
  std::string out;
  const bool good = verified_equal(answer);
  if (const proto::Value* paths = answer.find("paths"); paths && paths->as_array())
    for (const proto::Value& difference : *paths->as_array())
      out += fmt::format("{}: {}\n", text_of(difference, "path"), text_of(difference, "what"));
  const std::string fidelity = text_of(answer, "fidelity");
  out += good ? "equal" : fmt::format("{:.0f} differences", number_of(answer, "differences"));
  out += fmt::format(": {:.0f} files", number_of(answer, "files"));
  // Of what is kept beside the tree, what there was.
  for (const auto& [field, text] : {std::pair("contents", "kept contents"), {"packs", "packs"}})
    if (const double number = number_of(answer, field); number > 0)
      out += fmt::format(", {:.0f} {}", number, text);
  out += fmt::format(", {} read{}\n", human_bytes(number_of(answer, "bytes")),
                     fidelity == "full" ? "" : "; fidelity: " + fidelity);
  if (!good && is_true(answer, "repaired")) out += "repaired\n";
  return out;
}

}  // namespace mirrorbus::tools
