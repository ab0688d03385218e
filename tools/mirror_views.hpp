// What bus-mirror prints for people of a daemon's answers.
#pragma once

#include "proto/value.hpp"

#include <string>
#include <string_view>

namespace mirrorbus::tools {

// 80 columns, one line a tree, the worst first; what is wrong with it below it.
std::string status_text(const proto::Value& trees);
std::string versions_text(const proto::Value& versions);
std::string verify_text(const proto::Value& found);
bool verified_equal(const proto::Value& found);

// A value of a map in an answer: as text ("" where there is none), as a number (0).
std::string text_of(const proto::Value& map, std::string_view key);
double number_of(const proto::Value& map, std::string_view key);

std::string human_bytes(double bytes);
std::string human_seconds(double seconds);

}  // namespace mirrorbus::tools
