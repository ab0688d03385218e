#include "tools/event_filter.hpp"

#include "bus/trust/policy.hpp"
#include "tools/event_range.hpp"

#include <algorithm>

namespace mirrorbus::tools {

std::optional<FieldTest> FieldTest::parse(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return std::nullopt;
  FieldTest test;
  test.value = text.substr(equals + 1);
  for (std::size_t begin = 0; begin <= equals;) {
    const std::size_t end = std::min(text.find('.', begin), equals);
    if (end == begin) return std::nullopt;
    test.path.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return test;
}

bool FieldTest::holds(const proto::Value& body) const {
  const proto::Value* at = &body;
  for (const std::string& step : path) {
    if (const proto::Array* list = at->as_array()) {
      const auto index = parse_number(step);
      if (!index || *index >= list->size()) return false;
      at = &(*list)[*index];
    } else if (!(at = at->find(step))) {
      return false;
    }
  }
  const std::string* text = at->as_text();
  return value == (text ? *text : proto::to_json(*at));
}

bool EventFilter::wants_publisher(const std::string& name) const {
  return trust::matches_name(publishers, name);
}

bool EventFilter::wants(const ShownEvent& event) const {
  return wants_publisher(event.publisher) && !proto::matches_any(exclude, event.topic) &&
         std::ranges::all_of(fields, [&](const FieldTest& test) { return test.holds(event.body); });
}

}  // namespace mirrorbus::tools
