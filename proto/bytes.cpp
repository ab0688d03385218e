#include "proto/bytes.hpp"

#include <cassert>

namespace mirrorbus::proto {

Hash Hash::from_bytes(ByteView bytes) {
  assert(bytes.size() == kSize);
  Hash hash;
  std::memcpy(hash.octets.data(), bytes.data(), kSize);
  return hash;
}

std::string to_hex(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

namespace {
int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

bool from_hex(std::string_view text, Bytes& out) {
  if (text.size() % 2 != 0) return false;
  Bytes bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes += static_cast<char>(high << 4 | low);
  }
  out = std::move(bytes);
  return true;
}

bool from_hex(std::string_view text, Hash& out) {
  Bytes bytes;
  if (text.size() != 2 * Hash::kSize || !from_hex(text, bytes)) return false;
  out = Hash::from_bytes(bytes);
  return true;
}

}  // namespace mirrorbus::proto
