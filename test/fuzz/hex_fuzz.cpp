// Hexadecimal digits.
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView text = fuzz::view(data, size);
  proto::Bytes bytes;
  if (proto::from_hex(text, bytes)) {
    proto::Bytes lower(text);
    for (char& c : lower) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    fuzz::require(proto::to_hex(bytes) == lower, "what was written again is the same");
  }
  proto::Hash hash;
  if (proto::from_hex(text, hash))
    fuzz::require(bytes == hash.view(), "a hash is read as its bytes are");
  return 0;
}
