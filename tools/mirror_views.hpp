// What bus-mirror prints for people of a daemon's answers.
#pragma once

#include "proto/value.hpp"

#include <string>

namespace mirrorbus::tools {

// 80 columns, one line a tree, the worst first; what is wrong with it below it.
std::string status_text(const proto::Value& trees);
std::string versions_text(const proto::Value& versions);
std::string verify_text(const proto::Value& found);
bool verified_equal(const proto::Value& found);

std::string human_bytes(double bytes);
std::string human_seconds(double seconds);

}  // namespace mirrorbus::tools
