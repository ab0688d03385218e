#include "bus/peer/settings.hpp"

#include "bus/base/fd.hpp"
#include "bus/net/endpoint.hpp"
#include "bus/trust/policy.hpp"
#include "proto/limits.hpp"
#include "proto/topic.hpp"

#include <algorithm>
#include <fstream>

#include <fmt/core.h>
#include <netdb.h>
#include <sys/socket.h>

namespace mirrorbus::peer {
namespace {

using base::ConfigTable;

bool word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

void check_prefix(const ConfigTable& table, std::string_view prefix) {
  bool segment_begins = true;
  for (const char c : prefix) {
    const bool good = c == '.' ? !segment_begins : word_character(c);
    if (!good) table.fail("prefix", "must be words of a-z, 0-9, _ and - with dots between them");
    segment_begins = c == '.';
  }
  if (segment_begins || prefix.size() > proto::kMaxTopicSize / 2)
    table.fail("prefix", fmt::format("must be words with dots between them, at most {} bytes",
                                     proto::kMaxTopicSize / 2));
}

void check_publisher(const ConfigTable& table, std::string_view name) {
  const auto good = [](char c) {
    return word_character(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '@';
  };
  if (name.empty() || name.size() > proto::kMaxNameSize || !std::ranges::all_of(name, good))
    table.fail("publisher",
               fmt::format("must be 1 to {} of letters, digits and . _ - @", proto::kMaxNameSize));
}

// "" if absent.
std::string endpoint(const ConfigTable& table, std::string_view key) {
  std::string text = table.text(key, "");
  if (!text.empty() && !net::parse_endpoint(text))
    table.fail(key, fmt::format("\"{}\" is not an endpoint, write \"tcp://ADDRESS:PORT\" or "
                                "\"ipc://PATH\"",
                                text));
  return text;
}

std::string url(const ConfigTable& table, std::string_view key) {
  std::string text = table.text(key, "");
  if (!text.empty() && !text.starts_with("http://") && !text.starts_with("https://"))
    table.fail(key, fmt::format("\"{}\" is not an address of the form http://HOST:PORT", text));
  return text;
}

std::string directory(const ConfigTable& table, std::string_view key) {
  std::string path = table.text(key, "");
  if (!path.empty() && path.front() != '/')
    table.fail(key, fmt::format("\"{}\" must be an absolute path", path));
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

BusSettings read_bus(const ConfigTable& table, std::string_view daemon) {
  BusSettings s;
  s.prefix = table.text("prefix");
  check_prefix(table, s.prefix);
  s.environment = table.choice("environment", {"dev", "stg", "production"}, "dev");
  const auto publisher = table.find_text("publisher");
  s.publisher = publisher ? *publisher : fmt::format("{}@{}", daemon, full_host_name());
  check_publisher(table, s.publisher);
  s.state = directory(table, "state");
  s.publish = endpoint(table, "publish");
  s.serve = endpoint(table, "serve");
  s.advertise_publish = endpoint(table, "advertise_publish");
  s.advertise_serve = endpoint(table, "advertise_serve");
  s.advertise_content = url(table, "advertise_content");
  s.durable = table.choice("durability", {"full", "off"}, "full") == "full";
  base::parse_log_level(
      table.choice("log_level", {"debug", "info", "notice", "warning", "error"}, "notice"),
      s.log_level);
  s.publish_buffer = table.size("publish_buffer", s.publish_buffer, 1 << 20, 1 << 30);
  s.signatures_per_second = static_cast<std::uint32_t>(
      table.integer("signatures_per_second", s.signatures_per_second, 1, 100'000));
  s.retain = table.duration("retain", s.retain, std::chrono::minutes(1));
  s.retain_bytes = table.size("retain_bytes", s.retain_bytes, 16 << 20);
  s.forward = table.texts("forward");
  for (const std::string& relay : s.forward) {
    const auto parsed = net::parse_endpoint(relay);
    if (!parsed || parsed->host == "*" ||
        (parsed->kind == net::Endpoint::Kind::Tcp && parsed->port == 0))
      table.fail("forward", fmt::format("\"{}\" is not the serve endpoint of a relay, write "
                                        "\"tcp://HOST:PORT\" or \"ipc://PATH\"",
                                        relay));
    if (std::ranges::count(s.forward, relay) > 1)
      table.fail("forward", fmt::format("names \"{}\" twice", relay));
  }
  s.forward_token_file = table.text("forward_token_file", "");
  s.gap_after = table.duration("gap_after", s.gap_after, std::chrono::seconds(1));
  return s;
}

DiscoverySettings read_discovery(const ConfigTable& table) {
  DiscoverySettings s;
  s.domains = table.texts("domains");
  for (const std::string& domain : s.domains)
    if (domain.empty() || domain.size() > 200 || domain.find_first_of(" /:") != domain.npos)
      table.fail("domains", fmt::format("\"{}\" is not a domain name", domain));
  s.resolvers = table.texts("resolvers");
  for (const std::string& resolver : s.resolvers) {
    const auto parsed = net::parse_host_port(resolver);
    if (!net::is_literal_address(parsed ? parsed->host : resolver))
      table.fail("resolvers", fmt::format("\"{}\" must be an address, or ADDRESS:PORT", resolver));
  }
  for (const ConfigTable& item : table.tables("static")) {
    StaticSource source{endpoint(item, "publish"), endpoint(item, "serve")};
    if (source.publish.empty() && source.serve.empty())
      item.fail("", "needs publish, serve or both");
    s.fixed.push_back(std::move(source));
  }
  return s;
}

SigningSettings read_signing(const ConfigTable& table) {
  SigningSettings s;
  s.scheme = table.choice("scheme", {"openpgp", "x509", "none"}, s.scheme);
  s.key = table.text("key", "");
  s.certificate = table.text("certificate", "");
  s.home = directory(table, "home");
  s.lifetime =
      table.duration("lifetime", s.lifetime, std::chrono::minutes(10), std::chrono::hours(24 * 31));
  if (s.scheme != "none" && s.key.empty()) table.text("key");
  if (s.scheme == "openpgp" && s.home.empty()) table.text("home");
  if (s.scheme == "x509" && s.certificate.empty()) table.text("certificate");
  return s;
}

TrustSettings read_trust(const ConfigTable& table) {
  TrustSettings s;
  s.home = directory(table, "home");
  s.authorities = table.text("authorities", "");
  s.certificates = directory(table, "certificates");
  s.crl = table.choice("crl", {"required", "off"}, "required") == "required";
  if (s.authorities.empty() != s.certificates.empty())
    table.fail("", "X.509 needs both authorities and certificates");
  for (const ConfigTable& item : table.tables("allow")) {
    AllowSettings rule{item.texts("topics"), item.texts("keys"), item.texts("publishers"),
                       item.boolean("unsigned", false)};
    for (const std::string& topic : rule.topics)
      if (!proto::TopicPattern::parse(topic))
        item.fail("topics", fmt::format("\"{}\" is not a topic pattern", topic));
    for (const std::string& key : rule.keys)
      if (!trust::KeyName::parse(key))
        item.fail("keys", fmt::format("\"{}\" is not a full fingerprint, write "
                                      "\"openpgp:FINGERPRINT\" or \"x509:SPKI-SHA256\"",
                                      key));
    if (rule.topics.empty()) item.fail("topics", "is required: which topics this rule allows");
    if (rule.keys.empty() && !rule.unsigned_streams)
      item.fail("keys", "is required: whom this rule allows (or unsigned = true)");
    if (!rule.keys.empty() && rule.unsigned_streams)
      item.fail("unsigned", "a rule is for keys or for unsigned streams, not both");
    s.allow.push_back(std::move(rule));
  }
  return s;
}

}  // namespace

ListenSettings ListenSettings::read(const ConfigTable& table) {
  ListenSettings s;
  s.listen = table.text("listen", "");
  if (table.present() && s.listen.empty()) table.text("listen");
  const auto parsed = net::parse_host_port(s.listen);
  if (!s.listen.empty() &&
      (!parsed || (!parsed->host.empty() && !net::is_literal_address(parsed->host))))
    table.fail("listen",
               fmt::format("\"{}\" must be ADDRESS:PORT, or :PORT for every address", s.listen));
  s.connections = static_cast<std::size_t>(table.integer("connections", 256, 1, 100'000));
  s.connections_per_peer =
      static_cast<std::size_t>(table.integer("connections_per_peer", 32, 1, 100'000));
  s.idle_timeout = table.duration("idle_timeout", s.idle_timeout, std::chrono::seconds(1));
  return s;
}

trust::Identity SigningSettings::identity() const {
  const proto::Scheme kind = scheme == "openpgp" ? proto::Scheme::OpenPgp
                             : scheme == "x509"  ? proto::Scheme::X509
                                                 : proto::Scheme::None;
  return {kind, key, certificate, home};
}

Settings Settings::read(const base::Config& config, std::string_view daemon) {
  Settings s;
  s.bus = read_bus(config.table("bus"), daemon);
  s.discovery = read_discovery(config.table("discovery"));
  s.signing = read_signing(config.table("signing"));
  s.trust = read_trust(config.table("trust"));
  s.http = ListenSettings::read(config.table("http"));
  s.content = ListenSettings::read(config.table("content"));
  return s;
}

std::optional<std::string> read_token(const std::string& file) {
  std::ifstream in(file);
  std::string token;
  if (!std::getline(in, token)) return std::nullopt;
  return token;
}

std::string full_host_name() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0) base::throw_errno("asking for the host name");
  if (std::string_view(name).find('.') != std::string_view::npos) return name;
  addrinfo hints{};
  hints.ai_flags = AI_CANONNAME;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  // A machine without a domain is no error: its short name has to do.
  if (::getaddrinfo(name, nullptr, &hints, &found) != 0) return name;
  std::string full = found->ai_canonname ? found->ai_canonname : name;
  ::freeaddrinfo(found);
  return full;
}

std::string advertised(const std::string& bound, const std::string& configured) {
  if (!configured.empty()) return configured;
  const auto endpoint = net::parse_endpoint(bound);
  const bool tells = endpoint && endpoint->kind == net::Endpoint::Kind::Tcp &&
                     endpoint->is_literal() && endpoint->host != "0.0.0.0" &&
                     endpoint->host != "::" && endpoint->port != 0;
  return tells ? bound : "";
}

}  // namespace mirrorbus::peer
