#include "services/relay/rules.hpp"

#include "bus/trust/session_key.hpp"

#include <algorithm>
#include <string_view>

namespace mirrorbus::relay {
namespace {

constexpr std::string_view kToken = "token:", kCertificate = "cert:";

}  // namespace

Client Client::over_zeromq(const std::string& peer, std::string token) {
  // ":UID:GID:PID" is no address, "::1" is one.
  const bool over_ipc = peer.empty() || (peer.front() == ':' && !net::parse_address(peer));
  return {over_ipc ? "ipc" : "tcp", peer, std::move(token), {}};
}

std::string Client::submitter() const {
  std::string text = door;
  if (!address.empty()) text += (address.front() == ':' && door == "ipc" ? "" : ":") + address;
  if (!token.empty()) text.append(" ").append(kToken).append(token);
  if (!certificate.empty()) text.append(" ").append(kCertificate).append(certificate.front());
  return text;
}

std::string Client::identity() const {
  if (!token.empty()) return std::string(kToken) + token;
  if (!certificate.empty()) return std::string(kCertificate) + certificate.front();
  return address;
}

std::optional<AllowRule> AllowRule::parse(const std::string& from) {
  if (from == "ipc") return AllowRule(Ipc{});
  if (from.starts_with(kToken)) return AllowRule(Token{from.substr(kToken.size())});
  if (from.starts_with(kCertificate))
    return AllowRule(Certificate{from.substr(kCertificate.size())});
  if (const auto range = net::AddressRange::parse(from)) return AllowRule(*range);
  return std::nullopt;
}

bool AllowRule::covers(const Client& client) const {
  if (const auto* token = std::get_if<Token>(&from_))
    return !client.token.empty() && client.token == token->name;
  if (const auto* certificate = std::get_if<Certificate>(&from_))
    return std::ranges::find(client.certificate, certificate->name) != client.certificate.end();
  if (std::holds_alternative<Ipc>(from_)) return client.door == "ipc";
  const auto address = net::parse_address(client.address);
  return address && std::get<net::AddressRange>(from_).contains(*address);
}

const std::string* AllowRule::token() const {
  const auto* token = std::get_if<Token>(&from_);
  return token ? &token->name : nullptr;
}

const std::string* AllowRule::certificate() const {
  const auto* certificate = std::get_if<Certificate>(&from_);
  return certificate ? &certificate->name : nullptr;
}

bool Tokens::add(const std::string& name, proto::ByteView secret) {
  if (!name_of(secret).empty()) return false;
  known_.emplace_back(name, proto::sha256(secret));
  return true;
}

bool Tokens::contains(const std::string& name) const {
  return std::ranges::find(known_, name, &std::pair<std::string, proto::Hash>::first) !=
         known_.end();
}

std::string Tokens::name_of(proto::ByteView secret) const {
  const proto::Hash shown = proto::sha256(secret);
  const std::string* found = nullptr;
  for (const auto& [name, hash] : known_)
    if (trust::same_secret(hash, shown)) found = &name;
  return found ? *found : std::string();
}

bool RelayRules::knows(const Client& client) const {
  return std::ranges::any_of(allow, [&](const AllowRule& rule) { return rule.covers(client); });
}

bool RelayRules::allow_topic(const Client& client, proto::ByteView topic) const {
  // What mirrors and daemons say of themselves is never anybody else's to say.
  for (const char* own : {".mirror", ".bus"})
    if (proto::is_under(topic, base + own)) return false;
  return std::ranges::any_of(allow, [&](const AllowRule& rule) {
    return rule.covers(client) && proto::matches_any(rule.topics, topic);
  });
}

}  // namespace mirrorbus::relay
