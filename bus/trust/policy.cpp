#include "bus/trust/policy.hpp"

#include <algorithm>

#include <fnmatch.h>

namespace mirrorbus::trust {
namespace {

bool speaks_of(const Rule& rule, const proto::StreamName& stream) {
  // A rule is about signed or about unsigned streams, never both: nothing to downgrade to.
  if (rule.unsigned_streams != (stream.scheme == proto::Scheme::None)) return false;
  if (!rule.unsigned_streams &&
      std::ranges::find(rule.keys, KeyName{stream.scheme, stream.fingerprint}) == rule.keys.end())
    return false;
  return matches_name(rule.publishers, stream.publisher);
}

}  // namespace

bool matches_name(const std::vector<std::string>& patterns, const std::string& publisher) {
  return patterns.empty() || std::ranges::any_of(patterns, [&](const std::string& pattern) {
           return fnmatch(pattern.c_str(), publisher.c_str(), 0) == 0;
         });
}

std::optional<KeyName> KeyName::parse(std::string_view text) {
  std::optional<KeyName> key(std::in_place);
  if (text.starts_with("openpgp:")) {
    text.remove_prefix(8);
  } else if (text.starts_with("x509:")) {
    key->scheme = proto::Scheme::X509;
    text.remove_prefix(5);
  }
  std::string digits;
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != ' '; });
  if (!proto::from_hex(digits, key->fingerprint)) return std::nullopt;
  const std::size_t size = key->fingerprint.size();
  if (size != 32 && !(size == 20 && key->scheme == proto::Scheme::OpenPgp)) return std::nullopt;
  return key;
}

std::string to_string(const KeyName& key) {
  return std::string(proto::to_string(key.scheme)) + ":" + proto::to_hex(key.fingerprint);
}

bool Policy::lists(const proto::StreamName& stream) const {
  return std::ranges::any_of(rules_, [&](const Rule& rule) { return speaks_of(rule, stream); });
}

bool Policy::allows(const proto::StreamName& stream, proto::ByteView topic) const {
  return std::ranges::any_of(rules_, [&](const Rule& rule) {
    return proto::matches_any(rule.topics, topic) && speaks_of(rule, stream);
  });
}

}  // namespace mirrorbus::trust
