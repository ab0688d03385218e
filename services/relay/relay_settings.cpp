#include "services/relay/relay_settings.hpp"

#include "bus/net/endpoint.hpp"
#include "proto/limits.hpp"

#include <fmt/core.h>

namespace mirrorbus::relay {
namespace {

// A byte of msgpack is up to six of JSON ("\u0001", "false,"), and something stands around the body.
constexpr std::uint64_t kMaxBody = 512 * 1024;
static_assert(kMaxBody > 6 * proto::kMaxEventSize);

// [relay.tokens] NAME = "FILE": the file's first line is the secret.
Tokens read_tokens(const base::ConfigTable& table) {
  Tokens tokens;
  for (const std::string& name : table.keys()) {
    const std::string path = table.text(name);
    const auto secret = peer::read_token(path);
    if (!secret)
      table.fail(name, "\"" + path + "\" cannot be read: it must hold the token on its first line");
    if (secret->size() < Tokens::kShortest)
      table.fail(name,
                 fmt::format("\"{}\" must hold at least {} characters", path, Tokens::kShortest));
    if (!tokens.add(name, *secret)) table.fail(name, "has the same secret as another token");
  }
  return tokens;
}

std::shared_ptr<const net::TlsContext> read_tls(const base::ConfigTable& table,
                                                const net::TlsFiles& files) {
  if (files.certificate.empty()) {
    if (!files.key.empty()) table.fail("key", "needs certificate beside it");
    if (!files.client_authorities.empty())
      table.fail("client_authorities", "needs certificate and key beside it");
    return nullptr;
  }
  if (files.key.empty()) table.fail("certificate", "needs key beside it");
  try {
    return std::make_shared<net::TlsContext>(files);
  } catch (const net::TlsFileError& error) {
    using File = net::TlsFileError::File;
    table.fail(error.which() == File::Certificate ? "certificate"
               : error.which() == File::Key       ? "key"
                                                  : "client_authorities",
               error.what());
  }
}

HttpDoorSettings read_http(const base::ConfigTable& table, bool& checks_clients) {
  HttpDoorSettings settings;
  settings.listen = peer::ListenSettings::read(table);
  const net::TlsFiles files{table.text("certificate", ""), table.text("key", ""),
                            table.text("client_authorities", "")};
  settings.tls = read_tls(table, files);
  checks_clients = settings.tls && !files.client_authorities.empty();
  if (!settings.tls &&
      !net::is_loopback_address(net::parse_host_port(settings.listen.listen)->host))
    table.fail("listen", fmt::format("\"{}\" can be reached from elsewhere and needs certificate and "
                                     "key; without them only a loopback address is taken, for a "
                                     "reverse proxy on this host",
                                     settings.listen.listen));
  settings.max_body = static_cast<std::size_t>(table.size("max_body", kMaxBody, 1024, 16 << 20));
  settings.rate = table.integer("rate", 100, 1, 1'000'000);
  settings.burst = table.integer("burst", settings.rate, 1, 1'000'000);
  return settings;
}

AllowRule read_rule(const base::ConfigTable& table, const Tokens& tokens, bool checks_clients) {
  AllowRule rule =
      read_from(table, tokens, checks_clients ? "" : "[relay.http] has no client_authorities");
  for (const std::string& text : table.texts("topics")) {
    auto pattern = proto::TopicPattern::parse(text);
    if (!pattern) table.fail("topics", "\"" + text + "\" is not a topic pattern");
    rule.topics.push_back(std::move(*pattern));
  }
  if (rule.topics.empty()) table.fail("topics", "must list what may be sent from there");
  return rule;
}

}  // namespace

AllowRule read_from(const base::ConfigTable& table, const Tokens& tokens,
                    std::string_view no_certificates) {
  const std::string from = table.text("from");
  auto rule = AllowRule::parse(from);
  if (!rule)
    table.fail("from", "\"" + from + "\" is neither \"ipc\" nor an address range like" +
                           " \"10.0.0.0/8\" nor \"token:NAME\" nor \"cert:NAME\"");
  if (rule->token() && !tokens.contains(*rule->token()))
    table.fail("from", "\"" + from + "\" names no token of [relay.tokens]");
  if (rule->certificate() && !no_certificates.empty())
    table.fail("from", fmt::format("\"{}\" can be nobody: {}", from, no_certificates));
  return std::move(*rule);
}

RelaySettings RelaySettings::read(const base::Config& config, const std::string& base) {
  RelaySettings settings;
  const base::ConfigTable table = config.table("relay");
  settings.submit = table.texts("submit");
  bool checks_clients = false;
  if (const base::ConfigTable http = table.table("http"); http.present())
    settings.http = read_http(http, checks_clients);
  if (settings.submit.empty() && !settings.http)
    table.fail("submit", "must name at least one endpoint, e.g. [\"ipc:///run/mirrorbus/submit\"],"
                         " where there is no [relay.http]");
  table.find_text("connect");  // bus-logger's, both
  table.find_text("token_file");
  RelayRules rules;
  rules.base = base;
  rules.tokens = read_tokens(table.table("tokens"));
  for (const base::ConfigTable& allow : table.tables("allow"))
    rules.allow.push_back(read_rule(allow, rules.tokens, checks_clients));
  settings.rules = std::make_shared<const RelayRules>(std::move(rules));
  return settings;
}

void refuse_fixed_changes(const RelaySettings& running, const RelaySettings& now) {
  std::string changed;
  const auto compare = [&changed](std::string_view key, bool same) {
    if (!same) changed += fmt::format("{}{}", changed.empty() ? "" : ", ", key);
  };
  compare("[relay] submit", running.submit == now.submit);
  compare("[relay.http]", running.http.has_value() == now.http.has_value());
  if (running.http && now.http) {
    compare("[relay.http] listen, connections, connections_per_peer, idle_timeout",
            running.http->listen == now.http->listen);
    compare("[relay.http] max_body", running.http->max_body == now.http->max_body);
    compare("whether [relay.http] has a certificate", !running.http->tls == !now.http->tls);
  }
  if (!changed.empty())
    throw std::runtime_error(changed + " cannot change while the daemon runs: restart it instead");
}

}  // namespace mirrorbus::relay
