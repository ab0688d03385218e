// The standard headers that most files include, compiled once for each library. Nothing depends on it:
// every file includes what it uses, and -Db_pch=false builds without it.
#ifndef MIRRORBUS_PRECOMPILED_STD_HPP  // a pragma once is refused in what is precompiled
#define MIRRORBUS_PRECOMPILED_STD_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#endif
