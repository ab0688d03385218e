#include "bus/net/endpoint.hpp"

#include "proto/limits.hpp"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/core.h>

namespace mirrorbus::net {
namespace {

constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://", kInproc = "inproc://";

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, port);
  return error == std::errc() && end == last ? std::optional(port) : std::nullopt;
}

bool host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_';
}

// The host may be empty; v6 addresses stand in brackets.
std::optional<HostPort> split_host_port(std::string_view text, bool wildcards) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view port_text = text.substr(colon + 1);
  const auto port =
      wildcards && port_text == "*" ? std::optional<std::uint16_t>(0) : parse_port(port_text);
  if (!port) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return std::nullopt;
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == host.npos || !is_literal_address(host)) return std::nullopt;
  } else if (!std::ranges::all_of(host, host_character) && !(wildcards && host == "*")) {
    return std::nullopt;
  }
  return HostPort{std::string(host), *port};
}

}  // namespace

bool is_literal_address(std::string_view host) {
  const std::string text(host);
  unsigned char room[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, text.c_str(), room) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), room) == 1;
}

bool is_loopback_address(std::string_view host) {
  const std::string text(host);
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  return ::inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string tcp_endpoint(std::string_view address, std::uint16_t port) {
  const bool v6 = address.find(':') != address.npos;
  return v6 ? fmt::format("tcp://[{}]:{}", address, port)
            : fmt::format("tcp://{}:{}", address, port);
}

std::optional<Endpoint> parse_endpoint(std::string_view text) {
  if (text.size() > proto::kMaxEndpointSize || text.find('\0') != text.npos) return std::nullopt;
  Endpoint endpoint;
  if (text.starts_with(kTcp)) {
    auto found = split_host_port(text.substr(kTcp.size()), true);
    if (!found || found->host.empty()) return std::nullopt;
    endpoint.host = std::move(found->host);
    endpoint.port = found->port;
    return endpoint;
  }
  const bool ipc = text.starts_with(kIpc);
  if (!ipc && !text.starts_with(kInproc)) return std::nullopt;
  endpoint.kind = ipc ? Endpoint::Kind::Ipc : Endpoint::Kind::Inproc;
  endpoint.path = text.substr(ipc ? kIpc.size() : kInproc.size());
  if (endpoint.path.empty()) return std::nullopt;
  return endpoint;
}

std::optional<HostPort> parse_host_port(std::string_view text) {
  return split_host_port(text, false);
}

bool Endpoint::is_literal() const { return kind != Kind::Tcp || is_literal_address(host); }

std::string Endpoint::to_string() const {
  switch (kind) {
    case Kind::Tcp: return tcp_endpoint(host, port);
    case Kind::Ipc: return std::string(kIpc) + path;
    case Kind::Inproc: return std::string(kInproc) + path;
  }
  return {};
}

}  // namespace mirrorbus::net
