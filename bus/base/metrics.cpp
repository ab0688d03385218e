#include "bus/base/metrics.hpp"

#include <fmt/core.h>

namespace mirrorbus::base {
namespace {

std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else if (c == '"' && quotes)
      out += "\\\"";
    else
      out += c;
  }
  return out;
}

std::string rendered(Registry::Label label) {
  if (label.first.empty()) return {};
  return fmt::format("{{{}=\"{}\"}}", label.first, escaped(label.second, true));
}

}  // namespace

Registry::Family& Registry::family(std::string_view name, std::string_view help, bool is_counter) {
  auto it = families_.find(name);
  if (it == families_.end())
    it = families_.emplace(std::string(name), Family{std::string(help), is_counter, {}, {}}).first;
  return it->second;
}

Counter& Registry::counter(std::string_view name, std::string_view help, Label label) {
  auto& slot = family(name, help, true).counters[rendered(label)];
  if (!slot) slot = std::make_unique<Counter>();
  return *slot;
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, Label label) {
  auto& slot = family(name, help, false).gauges[rendered(label)];
  if (!slot) slot = std::make_unique<Gauge>();
  return *slot;
}

std::string Registry::text() const {
  std::string out;
  for (const auto& [name, family] : families_) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, escaped(family.help, false), name,
                       family.is_counter ? "counter" : "gauge");
    for (const auto& [label, counter] : family.counters)
      out += fmt::format("{}{} {}\n", name, label, counter->value());
    for (const auto& [label, gauge] : family.gauges)
      out += fmt::format("{}{} {}\n", name, label, gauge->value());
  }
  return out;
}

}  // namespace mirrorbus::base
