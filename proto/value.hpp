// A msgpack value: event bodies, and requests and answers on the serve socket. See value.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mirrorbus::proto {

struct Value;

// Raw bytes, apart from text.
struct Binary {
  Bytes bytes;
  bool operator==(const Binary&) const = default;
};

using Array = std::vector<Value>;
// Keys are text, in the order written; a decoder refuses a repeated key.
using Map = std::vector<std::pair<std::string, Value>>;

struct Value {
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Binary, Array,
               Map>
      data;

  Value() = default;
  Value(bool v) : data(v) {}
  Value(int v) : data(normal(v)) {}
  Value(long v) : data(normal(v)) {}
  Value(long long v) : data(normal(v)) {}
  Value(unsigned v) : data(std::uint64_t{v}) {}
  Value(unsigned long v) : data(std::uint64_t{v}) {}
  Value(unsigned long long v) : data(std::uint64_t{v}) {}
  Value(double v) : data(v) {}
  Value(const char* v) : data(std::string(v)) {}
  Value(std::string_view v) : data(std::string(v)) {}
  Value(std::string v) : data(std::move(v)) {}
  Value(Binary v) : data(std::move(v)) {}
  Value(const Hash& v) : data(Binary{Bytes(v.view())}) {}
  Value(Array v) : data(std::move(v)) {}
  Value(Map v) : data(std::move(v)) {}

  bool operator==(const Value&) const = default;
  bool is_null() const { return std::holds_alternative<std::monostate>(data); }

  // The value under `key` if this is a map that has it, else nullptr.
  const Value* find(std::string_view key) const;

  // Each is empty if the value is of another type (or out of range).
  std::optional<bool> as_bool() const;
  std::optional<std::uint64_t> as_u64() const;
  std::optional<std::int64_t> as_i64() const;
  std::optional<double> as_number() const;
  const std::string* as_text() const { return std::get_if<std::string>(&data); }
  const Bytes* as_binary() const;
  std::optional<Hash> as_hash() const;  // a Binary of 32 bytes
  const Array* as_array() const { return std::get_if<Array>(&data); }
  const Map* as_map() const { return std::get_if<Map>(&data); }

 private:
  // A number that is not negative has one form, whatever C++ type it came from.
  static decltype(data) normal(long long v) {
    if (v >= 0) return static_cast<std::uint64_t>(v);
    return static_cast<std::int64_t>(v);
  }
};

// Text is UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing above U+10FFFF.
bool valid_utf8(ByteView text);

// msgpack, shortest forms.
Bytes pack(const Value& value);
void pack_to(Bytes& out, const Value& value);

// Exactly one value within the limits of limits.hpp: depth <= kMaxBodyDepth, no sizes beyond the
// bytes at hand, text is UTF-8, keys are text and not repeated, no ext types.
Decoded<Value> unpack(ByteView bytes);

// For people and other tools: Binary becomes lower-case hex text. One line.
std::string to_json(const Value& value);
// JSON text as a value; nothing if it is not JSON, has a key twice in one object, or is beyond the
// limits for msgpack.
std::optional<Value> from_json(std::string_view text);

// A required field of a map: `field<std::uint64_t>(map, "seq")`. MissingKey or WrongType otherwise.
template <class T>
Decoded<T> field(const Value& map, std::string_view key);
template <>
Decoded<std::uint64_t> field(const Value& map, std::string_view key);
template <>
Decoded<std::string> field(const Value& map, std::string_view key);
template <>
Decoded<Hash> field(const Value& map, std::string_view key);

}  // namespace mirrorbus::proto
