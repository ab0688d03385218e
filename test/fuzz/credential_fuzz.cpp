// The document of a credential.
#include "proto/credential.hpp"
#include "proto/topic.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  fuzz::canonical(bytes, proto::decode_credential, proto::encode_credential);
  const auto credential = proto::decode_credential(bytes);
  if (!credential) return 0;
  (void)credential->stream.id();
  for (const std::string& scope : credential->scopes)
    fuzz::require(proto::TopicPattern::parse(scope).has_value(), "a scope is a pattern");
  return 0;
}
