// Fixed-width big-endian integers, LEB128 varints and raw bytes: the alphabet of the binary formats.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <concepts>
#include <optional>

namespace mirrorbus::proto {

class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}

  Writer& u8(std::uint8_t value) { return put(value); }
  Writer& u16(std::uint16_t value) { return put(value); }
  Writer& u32(std::uint32_t value) { return put(value); }
  Writer& u64(std::uint64_t value) { return put(value); }
  Writer& varint(std::uint64_t value) {
    while (value >= 0x80) {
      out_ += static_cast<char>(value | 0x80);
      value >>= 7;
    }
    out_ += static_cast<char>(value);
    return *this;
  }
  // Signed, small magnitudes short: 0, -1, 1, -2 … become 0, 1, 2, 3 …
  Writer& zigzag(std::int64_t value) {
    return varint(static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63));
  }
  Writer& raw(ByteView bytes) {
    out_ += bytes;
    return *this;
  }
  Writer& hash(const Hash& hash) { return raw(hash.view()); }
  // One length byte, then the bytes; the caller has checked that they fit.
  Writer& short_string(ByteView bytes) { return u8(static_cast<std::uint8_t>(bytes.size())).raw(bytes); }

 private:
  template <std::unsigned_integral T>
  Writer& put(T value) {
    for (int shift = static_cast<int>(sizeof(T) - 1) * 8; shift >= 0; shift -= 8)
      out_ += static_cast<char>(value >> shift);
    return *this;
  }
  Bytes& out_;
};

// Reads forward and never past the end. After the first failure every read gives zero or nothing,
// so a decoder reads all fields and asks once: `if (auto why = r.failure()) return refuse(*why)`.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}

  std::uint8_t u8() { return get<std::uint8_t>(); }
  std::uint16_t u16() { return get<std::uint16_t>(); }
  std::uint32_t u32() { return get<std::uint32_t>(); }
  std::uint64_t u64() { return get<std::uint64_t>(); }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = u8();
      if (failure_) return 0;
      if (shift == 63 && byte > 1) return fail(Reject::TooLarge), 0;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte == 0 && shift > 0) return fail(Reject::NotCanonical), 0;
        return value;
      }
    }
    return fail(Reject::TooLarge), 0;
  }
  std::int64_t zigzag() {
    const std::uint64_t value = varint();
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
  }
  ByteView raw(std::size_t size) {
    if (failure_) return {};
    if (rest_.size() < size) return fail(Reject::Truncated), ByteView{};
    const ByteView bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  Hash hash() {
    const ByteView bytes = raw(Hash::kSize);
    return failure_ ? Hash{} : Hash::from_bytes(bytes);
  }
  ByteView short_string() { return raw(u8()); }

  void fail(Reject reject) {
    if (!failure_) failure_ = reject;
    rest_ = {};
  }
  // Nothing may follow the last field.
  void expect_end() {
    if (!failure_ && !rest_.empty()) fail(Reject::TrailingBytes);
  }
  const std::optional<Reject>& failure() const { return failure_; }
  ByteView rest() const { return rest_; }
  bool at_end() const { return rest_.empty(); }

 private:
  template <std::unsigned_integral T>
  T get() {
    const ByteView bytes = raw(sizeof(T));
    T value = 0;
    for (const unsigned char byte : bytes) value = static_cast<T>(value << 8 | byte);
    return value;
  }
  ByteView rest_;
  std::optional<Reject> failure_;
};

}  // namespace mirrorbus::proto
