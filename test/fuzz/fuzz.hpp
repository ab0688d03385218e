// What the harnesses share. A harness is a file NAME_fuzz.cpp with LLVMFuzzerTestOneInput; it is
// built twice: with replay_main.cpp, which runs its corpus, and with libFuzzer, which looks for
// more.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>
#include <utility>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace mirrorbus::fuzz {

inline proto::ByteView view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Not assert(): it must hold in every build.
inline void require(bool holds, const char* what,
                    std::source_location at = std::source_location::current()) {
  if (holds) return;
  std::fprintf(stderr, "%s:%u: not so: %s\n", at.file_name(), at.line(), what);
  std::abort();
}

// What was decoded and is encoded again must decode to the same value.
template <class Decode, class Encode>
void round_trip(proto::ByteView bytes, Decode decode, Encode encode,
                std::source_location at = std::source_location::current()) {
  const auto value = decode(bytes);
  if (!value) return;
  const proto::Bytes again = encode(*value);
  const auto second = decode(proto::ByteView(again));
  require(second.has_value(), "what was encoded again decodes", at);
  require(*second == *value, "what was encoded again is the same value", at);
}

// The same for a format in which each value has one spelling.
template <class Decode, class Encode>
void canonical(proto::ByteView bytes, Decode decode, Encode encode,
               std::source_location at = std::source_location::current()) {
  const auto value = decode(bytes);
  if (value) require(encode(*value) == bytes, "what was encoded again is the same bytes", at);
}

// A byte string as a row of decisions. After its end every decision is 0.
class Choices {
 public:
  explicit Choices(proto::ByteView bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const char next = rest_.front();
    rest_.remove_prefix(1);
    return static_cast<std::uint8_t>(next);
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  // Below `n`, which is not 0.
  std::size_t below(std::size_t n) {
    const std::size_t high = n > 256 ? byte() : 0;
    return (high << 8 | byte()) % n;
  }
  bool flag() { return byte() % 2 != 0; }
  // Up to 255 bytes, as one byte says.
  proto::ByteView bytes() { return take(byte()); }
  // Up to 65535, as two bytes say.
  proto::ByteView long_bytes() {
    const std::size_t high = byte();
    return take(high << 8 | byte());
  }
  proto::ByteView rest() { return take(rest_.size()); }

 private:
  proto::ByteView take(std::size_t size) {
    const proto::ByteView taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  proto::ByteView rest_;
};

}  // namespace mirrorbus::fuzz
