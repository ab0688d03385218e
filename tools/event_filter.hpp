// Which events a reader wants to see, beyond their topics' patterns.
#pragma once

#include "proto/topic.hpp"
#include "tools/event_printer.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tools {

// FIELD=VALUE: a body's field, by names (of a list: numbers from 0) with dots between, and its
// value: text as it is, everything else as in JSON.
struct FieldTest {
  std::vector<std::string> path;
  std::string value;

  static std::optional<FieldTest> parse(const std::string& text);
  bool holds(const proto::Value& body) const;
};

struct EventFilter {
  std::vector<std::string> publishers;  // shell patterns; empty = any
  std::vector<proto::TopicPattern> exclude;
  std::vector<FieldTest> fields;  // all must hold

  bool wants_publisher(const std::string& name) const;
  bool wants(const ShownEvent& event) const;
};

}  // namespace mirrorbus::tools
