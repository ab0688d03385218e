// What bus-check found of one thing: whether it is as it should be, and what to look at if not.
#pragma once

#include "proto/value.hpp"

#include <string>
#include <string_view>

namespace mirrorbus::tools {

enum class Grade { Ok, Warning, Wrong };
std::string_view to_string(Grade grade) noexcept;

// In the order in which findings are printed.
enum class Check { Dns, Publish, Serve, Keys, Clock, Sequences };
std::string_view to_string(Check check) noexcept;

struct Finding {
  Grade grade;
  Check check;
  std::string subject;  // a DNS name, an endpoint, a publisher
  std::string text;
  proto::Map details = {};  // for programs

  std::string line() const;  // one for people
  std::string json() const;
};

}  // namespace mirrorbus::tools
