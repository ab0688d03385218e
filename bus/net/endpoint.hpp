// Where something listens, as libzmq spells it: tcp://HOST:PORT, tcp://[V6]:PORT, ipc://PATH.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mirrorbus::net {

struct Endpoint {
  enum class Kind { Tcp, Ipc, Inproc };
  Kind kind = Kind::Tcp;
  std::string host;        // Tcp: name, literal address (without brackets) or "*"
  std::uint16_t port = 0;  // Tcp; 0 where "*" or 0 was written: bind to any free port
  std::string path;        // Ipc, Inproc

  // Fit for connecting without asking DNS: anything but a Tcp host that is a name or "*".
  bool is_literal() const;
  std::string to_string() const;
  bool operator==(const Endpoint&) const = default;
};

// At most proto::kMaxEndpointSize bytes; nothing for anything that is not of the forms above.
std::optional<Endpoint> parse_endpoint(std::string_view text);

// An IPv4 or IPv6 address in numbers.
bool is_literal_address(std::string_view host);
// One that only this machine can reach: 127.0.0.0/8 or ::1.
bool is_loopback_address(std::string_view host);
// "tcp://192.0.2.1:9940", "tcp://[2001:db8::1]:9940".
std::string tcp_endpoint(std::string_view address, std::uint16_t port);

// "127.0.0.1:9942", "[::1]:9942", ":9942" (every address), as listeners are configured.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
std::optional<HostPort> parse_host_port(std::string_view text);

}  // namespace mirrorbus::net
