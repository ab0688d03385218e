#include "tools/finding.hpp"

#include <fmt/core.h>

namespace mirrorbus::tools {

std::string_view to_string(Grade grade) noexcept {
  switch (grade) {
    case Grade::Ok:
      return "ok";
    case Grade::Warning:
      return "warning";
    case Grade::Wrong:
      return "wrong";
  }
  return "unknown";
}

std::string_view to_string(Check check) noexcept {
  switch (check) {
    case Check::Dns:
      return "dns";
    case Check::Publish:
      return "publish";
    case Check::Serve:
      return "serve";
    case Check::Keys:
      return "keys";
    case Check::Clock:
      return "clock";
    case Check::Sequences:
      return "sequences";
  }
  return "unknown";
}

std::string Finding::line() const {
  return fmt::format("{:<7} {:<9} {}: {}", to_string(grade), to_string(check), subject, text);
}

std::string Finding::json() const {
  proto::Map object{{"result", to_string(grade)},
                    {"check", to_string(check)},
                    {"subject", subject},
                    {"text", text}};
  object.insert(object.end(), details.begin(), details.end());
  return proto::to_json(object);
}

}  // namespace mirrorbus::tools
