// Bytes and hashes, as every format here sees them.
//
// A byte string is a std::string and a view of one is a std::string_view (the convention of
// LevelDB's Slice): both compare bytewise, as unsigned, and neither implies an encoding.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

namespace mirrorbus::proto {

using Bytes = std::string;
using ByteView = std::string_view;

// A SHA-256 value. Zero means "none" where a format says so.
struct Hash {
  static constexpr std::size_t kSize = 32;
  std::array<unsigned char, kSize> octets{};

  // Takes exactly 32 bytes; anything else is the caller's bug.
  static Hash from_bytes(ByteView bytes);
  ByteView view() const noexcept {
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
  }
  bool is_zero() const noexcept { return *this == Hash{}; }
  auto operator<=>(const Hash&) const noexcept = default;
};

// Lower-case hexadecimal.
std::string to_hex(ByteView bytes);
inline std::string to_hex(const Hash& hash) { return to_hex(hash.view()); }
// False if `text` is not an even number of hexadecimal digits.
bool from_hex(std::string_view text, Bytes& out);
// The hash written as 64 hexadecimal digits, or false.
bool from_hex(std::string_view text, Hash& out);

}  // namespace mirrorbus::proto

template <>
struct std::hash<mirrorbus::proto::Hash> {
  std::size_t operator()(const mirrorbus::proto::Hash& hash) const noexcept {
    std::size_t value;
    std::memcpy(&value, hash.octets.data(), sizeof value);
    return value;
  }
};
