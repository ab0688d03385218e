// [relay] and the tables below it.
#pragma once

#include "bus/base/config.hpp"
#include "bus/net/http_tls.hpp"
#include "bus/peer/settings.hpp"
#include "services/relay/rules.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::relay {

// [relay.http]
struct HttpDoorSettings {
  peer::ListenSettings listen;
  std::shared_ptr<const net::TlsContext> tls;  // nothing: plain, on a loopback address
  std::size_t max_body = 0;
  std::int64_t rate = 0;  // submissions a second, of each client
  std::int64_t burst = 0;
};

struct RelaySettings {
  std::vector<std::string> submit;  // endpoints to bind
  std::optional<HttpDoorSettings> http;
  std::shared_ptr<const RelayRules> rules;

  // Reads the files of tokens and certificates as well. Raises base::ConfigError. `base`: what all
  // topics begin with, prefix.env.
  static RelaySettings read(const base::Config& config, const std::string& base);
};

// The key "from" of a rule's table. Raises base::ConfigError. `no_certificates`: why "cert:NAME" would
// be nobody here; empty if it may be somebody.
AllowRule read_from(const base::ConfigTable& table, const Tokens& tokens,
                    std::string_view no_certificates);

// Throws if `now` has changed what a running daemon cannot.
void refuse_fixed_changes(const RelaySettings& running, const RelaySettings& now);

}  // namespace mirrorbus::relay
