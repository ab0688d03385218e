// Who may say what. Rules allow, nothing denies, and what no rule allows is denied.
#pragma once

#include "proto/credential.hpp"
#include "proto/topic.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::trust {

// "openpgp:FPR", "x509:SPKI-SHA256", or a bare OpenPGP fingerprint.
struct KeyName {
  proto::Scheme scheme = proto::Scheme::OpenPgp;
  proto::Bytes fingerprint;

  static std::optional<KeyName> parse(std::string_view text);
  bool operator==(const KeyName&) const = default;
};
std::string to_string(const KeyName& key);

struct Rule {
  std::vector<proto::TopicPattern> topics;
  std::vector<KeyName> keys;
  std::vector<std::string> publishers;  // shell patterns over publisher names; empty = any
  bool unsigned_streams = false;        // matches streams without a scheme, and only those
};

// Is it one of these shell patterns, or are there none?
bool matches_name(const std::vector<std::string>& patterns, const std::string& publisher);

class Policy {
 public:
  Policy() = default;
  explicit Policy(std::vector<Rule> rules) : rules_(std::move(rules)) {}

  // Is there any rule this stream could be allowed by? gpg is never started for one that is not.
  bool lists(const proto::StreamName& stream) const;
  bool allows(const proto::StreamName& stream, proto::ByteView topic) const;

 private:
  std::vector<Rule> rules_;
};

}  // namespace mirrorbus::trust
