#include "tools/listening.hpp"

#include "bus/net/endpoint.hpp"
#include "bus/trust/openpgp.hpp"
#include "tools/tool_config.hpp"

#include <stdexcept>

namespace mirrorbus::tools {
namespace {

// Whoever has a key in this keyring may say anything: the operator chose the keyring.
peer::TrustSettings trust_keyring(const std::string& home) {
  peer::TrustSettings trust;
  trust.home = home;
  peer::AllowSettings allow;
  allow.topics = {"**"};
  for (const proto::Bytes& fingerprint : trust::OpenPgp(home).public_keys())
    allow.keys.push_back(proto::to_hex(fingerprint));
  trust.allow.push_back(std::move(allow));
  return trust;
}

}  // namespace

void ListenOptions::add_to(base::CommandOptions& line) {
  line.option("--config", config, "a daemon's or tool's configuration file").existing_file();
  line.option("--domain", domains, "find publishers through SRV records of this domain");
  line.option("--endpoint", endpoints, "connect to this publisher, tcp://ADDRESS:PORT");
  line.option("--keyring", keyring, "GnuPG home with the public keys to trust")
      .existing_directory();
}

std::expected<peer::Settings, std::string> ListenOptions::settings() const {
  peer::Settings settings = load_tool_config(config).settings;
  peer::DiscoverySettings& discovery = settings.discovery;
  if (!domains.empty() || !endpoints.empty()) {
    discovery.domains = domains;
    discovery.fixed.clear();
    for (const std::string& endpoint : endpoints) {
      if (!net::parse_endpoint(endpoint))
        return std::unexpected("\"" + endpoint + "\" is not an endpoint like tcp://192.0.2.1:9940");
      discovery.fixed.push_back({endpoint, ""});
    }
  }
  if (discovery.domains.empty() && discovery.fixed.empty())
    return std::unexpected("needs --config, --domain or --endpoint to know where to listen");
  if (!keyring.empty()) settings.trust = trust_keyring(keyring);
  return settings;
}

std::vector<proto::TopicPattern> topic_patterns(const std::vector<std::string>& texts) {
  std::vector<proto::TopicPattern> parsed;
  for (const std::string& text : texts) {
    auto pattern = proto::TopicPattern::parse(text);
    if (!pattern) throw std::runtime_error("\"" + text + "\" is not a topic pattern");
    parsed.push_back(std::move(*pattern));
  }
  return parsed;
}

}  // namespace mirrorbus::tools
